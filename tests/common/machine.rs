//! The machine the tests share: whose turn it is, which tools are there, how many files may be
//! open.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Tests that measure time or fill the machine write; all others read.
static TURN: RwLock<()> = RwLock::new(());

/// Held by a test that bears company.
pub fn light() -> RwLockReadGuard<'static, ()> {
    TURN.read().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Held by a test that measures time or fills the machine: it runs alone.
pub fn heavy() -> RwLockWriteGuard<'static, ()> {
    TURN.write()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Says that a test was not run, and why.
///
/// # Panics
/// Where `CI=true`: there, everything runs.
pub fn skip(test: &str, why: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test}: {why}, and CI=true allows no skipping"
    );
    eprintln!("SKIPPED {test}: {why}");
}

/// Where a program is, if it is on the path.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A Python that has the SDKs of `tests/sdk/requirements.txt`.
pub fn python() -> Option<PathBuf> {
    let named = std::env::var_os("VICTOR_TEST_PYTHON").map(PathBuf::from);
    let cached = root().join(".cache/venv/bin/python");
    named.into_iter().chain([cached]).find(|python| {
        Command::new(python)
            .args(["-c", "import anthropic, openai"])
            .output()
            .is_ok_and(|output| output.status.success())
    })
}

/// The folder of `Cargo.toml`.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Raises this process's soft limit of open files to the hard one; gives the limit.
pub fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where it is refused, the tests that need many files say so themselves.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
