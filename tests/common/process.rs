//! A child process: its output as it comes, its end, and what `/proc` says of it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::wait;

/// What a child has written so far.
type Output = Arc<Mutex<String>>;

/// A running child. Killed when dropped; its output is shown when the test fails.
pub struct Process {
    name: String,
    child: Child,
    started: Instant,
    stdout: Output,
    stderr: Output,
}

fn collect(from: impl Read + Send + 'static) -> Output {
    let output = Output::default();
    let sink = Arc::clone(&output);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            sink.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    output
}

impl Process {
    /// Starts `command` and collects what it prints.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {command:?}: {error}"));
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        Self {
            name: name.to_owned(),
            child,
            started,
            stdout,
            stderr,
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Everything it printed to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    /// Everything it printed to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits for a whole line of stdout that begins with `start`.
    ///
    /// # Panics
    /// When the process ends first, or the line has not come within `limit`.
    pub fn line(&mut self, start: &str, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        loop {
            let ended = self.child.try_wait().expect("a child of ours");
            let found = wait::within(Duration::from_millis(20), || {
                let stdout = self.stdout.lock().unwrap();
                let complete = stdout.rfind('\n').map_or("", |end| &stdout[..end]);
                complete
                    .lines()
                    .find(|line| line.starts_with(start))
                    .map(str::to_owned)
            });
            if let Some(line) = found {
                return line;
            }
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{}: no line {start:?} ({ended:?})\nstdout: {}\nstderr: {}",
                self.name,
                self.stdout(),
                self.stderr()
            );
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).expect("a pid");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    pub fn end(&mut self, limit: Duration) -> ExitStatus {
        match wait::within(limit, || self.ended()) {
            Some(status) => status,
            None => panic!("{} still runs after {limit:?}", self.name),
        }
    }

    /// Ends it by force.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn status_field(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        text.lines()
            .find_map(|line| line.strip_prefix(field)?.split_whitespace().next())
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{path}: no {field}"))
    }

    /// Its resident memory in KiB.
    pub fn rss_kib(&self) -> u64 {
        self.status_field("VmRSS:")
    }

    /// Its resident memory without the pages of files, such as its own code, in KiB.
    pub fn anonymous_kib(&self) -> u64 {
        self.status_field("RssAnon:")
    }

    /// How many threads it has.
    pub fn threads(&self) -> u64 {
        self.status_field("Threads:")
    }

    /// The names of its threads.
    pub fn thread_names(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let mut names: Vec<String> = tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .map(|name| name.trim_end().to_owned())
            .collect();
        names.sort();
        names
    }

    /// How many files it has open.
    pub fn files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .expect("it runs")
            .count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let tail = |text: String| {
                let from = text.len().saturating_sub(8192);
                let from = (from..).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                text[from..].to_owned()
            };
            eprintln!("--- {} stdout\n{}", self.name, tail(self.stdout()));
            eprintln!("--- {} stderr\n{}", self.name, tail(self.stderr()));
        }
    }
}
