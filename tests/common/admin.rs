//! `victor admin` as the tests run it: against a daemon's socket, with its exit code and output.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::daemon::Daemon;

/// How a run of `victor admin` ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Ran {
    /// From what a command left behind.
    pub fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The output as JSON.
    ///
    /// # Panics
    /// When it failed, or printed anything else.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        assert_eq!(self.stdout.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the exit code and that the complaint holds `why`.
    pub fn failed(&self, code: i32, why: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.contains(why), "no {why:?} in {self:?}");
    }
}

/// A command that runs `victor admin` in `folder`; it ends after 60 s whatever happens.
pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["60", env!("CARGO_BIN_EXE_victor"), "admin"])
        .args(args)
        .current_dir(folder)
        .env_remove("VICTOR_CONFIG");
    command
}

/// Runs it.
pub fn run(folder: &Path, args: &[&str]) -> Ran {
    Ran::of(&command(folder, args).output().expect("it runs"))
}

impl Daemon {
    /// Runs a verb against this daemon, found by its configuration.
    pub fn admin(&self, args: &[&str]) -> Ran {
        let mut all = vec!["--config", "victor.yml"];
        all.extend(args);
        run(self.folder.path(), &all)
    }
}
