//! Configurations of the daemon under test, written to a folder of their own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

/// The key that the daemon sends to the provider of the OpenAI dialect.
pub const OPENAI_KEY: &str = "sk-upstream-openai-4711";
/// The key that the daemon sends to the provider of the Anthropic dialect.
pub const ANTHROPIC_KEY: &str = "sk-ant-upstream-4712";

/// A fresh folder, removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one under the system's folder for temporary files.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("victor-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it; gives the file's path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A configuration in the making.
#[derive(Clone)]
pub struct Config(Value);

impl Config {
    /// Two providers, `simo` (openai) and `sima` (anthropic), both the simulator at `addr`;
    /// ports chosen by the system; no cache, so that every call reaches the provider.
    pub fn behind(addr: SocketAddr) -> Self {
        Self(json!({
            "server": {"listen": "127.0.0.1:0"},
            "ops": {"listen": "127.0.0.1:0"},
            "providers": {
                "simo": {
                    "kind": "openai",
                    "base_url": format!("http://{addr}/v1"),
                    "api_key": OPENAI_KEY,
                },
                "sima": {
                    "kind": "anthropic",
                    "base_url": format!("http://{addr}"),
                    "api_key": ANTHROPIC_KEY,
                },
            },
            "cache": {"enabled": false},
            "logging": {"level": "info", "format": "json"},
        }))
    }

    /// Sets a key, as in `server.header_timeout`.
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        let mut at = &mut self.0;
        for key in path.split('.') {
            at = &mut at[key];
        }
        *at = value.into();
        self
    }

    /// Takes a key out.
    pub fn unset(mut self, path: &str) -> Self {
        let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
        let pointer = match parent {
            "" => String::new(),
            parent => format!("/{}", parent.replace('.', "/")),
        };
        if let Some(Value::Object(members)) = self.0.pointer_mut(&pointer) {
            members.remove(key);
        }
        self
    }

    /// As [`Config::set`], for `simo` and `sima`.
    pub fn providers(self, key: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.set(&format!("providers.simo.{key}"), value.clone())
            .set(&format!("providers.sima.{key}"), value)
    }

    /// One attempt a call, and breakers that stay closed: for tests that count single failures.
    pub fn one_attempt(self) -> Self {
        self.set("coordinators.retry", json!({"max_attempts": 1}))
            .providers("breaker", json!({"failures": 100_000}))
    }

    /// The text of the file, with every path the daemon writes to inside `folder`.
    pub fn yaml(&self, folder: &Path) -> String {
        let mut tree = self.0.clone();
        let defaults = [
            ("/admin/socket", "admin.sock"),
            ("/state_dir", "state"),
            ("/logging/file", "victor.log"),
        ];
        for (pointer, name) in defaults {
            if tree.pointer(pointer).is_none() {
                let mut at = &mut tree;
                for key in pointer.split('/').skip(1) {
                    at = &mut at[key];
                }
                *at = json!(folder.join(name));
            }
        }
        serde_yaml::to_string(&tree).expect("a plain tree")
    }
}
