//! The thread dump: every thread, what it does, for how long and for which call.
//!
//! It reads the registry's atomics and `/proc/self/task`, and takes no lock that a stuck thread
//! could hold: standard error is written past Rust's lock, and never waited for long. Threads
//! that libraries started are found in `/proc` and shown too. That a dump cannot be written is
//! said and is never fatal.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::clock::Utc;
use crate::log::stderr;
use crate::thread::{self, Role, Row};

/// Dumps kept in a folder; the oldest make room.
pub const DUMPS_MAX: usize = 20;
const PREFIX: &str = "thread-dump-";
const SUFFIX: &str = ".txt";

/// Writes a dump into `folder`, if there is one, and to standard error. Returns the file's path.
pub fn dump(folder: Option<&Path>) -> Option<PathBuf> {
    let text = render();
    let path = folder.and_then(|folder| match write_file(folder, &text) {
        Ok(path) => Some(path),
        Err(error) => {
            let folder = folder.display();
            stderr::say(&format!("cannot write a thread dump to {folder}: {error}"));
            log::error!("cannot write a thread dump to {folder}: {error}");
            None
        }
    });
    // Nobody reading it is no reason to fail: the file has it.
    let _ = stderr::write(text.as_bytes());
    match &path {
        Some(path) => {
            let path = path.display().to_string();
            log::info!(path = path.as_str(); "thread dump written to {path}");
        }
        None => log::info!("thread dump written to stderr"),
    }
    path
}

/// The dump's text: a header, counts, and a table with a line for every thread.
pub fn render() -> String {
    render_with(&thread::snapshot(), &kernel_threads())
}

/// A thread as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KernelThread {
    name: String,
    /// R running, S sleeping, D waiting for a disk, and so on (proc_pid_stat(5)).
    state: char,
    /// Processor time so far, in the kernel's clock ticks.
    ticks: u64,
}

fn render_with(rows: &[Row], kernel: &BTreeMap<u32, KernelThread>) -> String {
    let mut text = String::with_capacity(200 * (rows.len() + kernel.len() + 8));
    let seconds = thread::uptime_ms() / 1000;
    // Writing to a string does not fail, here and below.
    let _ = writeln!(
        text,
        "Thread dump of victor {}, pid {}, up {}d {:02}:{:02}:{:02}, at {}",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
        Utc::now().rfc3339(),
    );
    let mut lines: Vec<Line> = rows
        .iter()
        .map(|row| Line::registered(row, kernel))
        .collect();
    let known: Vec<u32> = rows.iter().map(|row| row.tid).collect();
    let foreign = kernel.iter().filter(|(tid, _)| !known.contains(tid));
    lines.extend(foreign.map(|(tid, thread)| Line::foreign(*tid, thread)));
    lines.sort_by(|a, b| {
        (a.role, &a.group, &a.name, a.tid).cmp(&(b.role, &b.group, &b.name, b.tid))
    });
    push_counts(&mut text, &lines);
    push_table(&mut text, &lines);
    text
}

/// One line of the table.
struct Line {
    name: String,
    tid: u32,
    role: &'static str,
    group: String,
    state: String,
    since: String,
    /// The kernel's state letter and the processor seconds.
    kernel: String,
    request_id: String,
    provider: String,
    waits_for: String,
}

impl Line {
    fn registered(row: &Row, kernel: &BTreeMap<u32, KernelThread>) -> Self {
        let or_dash = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
        Self {
            name: row.name.clone(),
            tid: row.tid,
            role: row.role.as_str(),
            group: or_dash(row.group),
            state: row.state.as_str().to_owned(),
            since: format!("{}.{:03}s", row.since_ms / 1000, row.since_ms % 1000),
            kernel: kernel
                .get(&row.tid)
                .map_or_else(|| "-".to_owned(), KernelThread::summary),
            request_id: or_dash(&row.request_id),
            provider: or_dash(row.provider),
            waits_for: row.waits_for.as_ref().map_or_else(
                || "-".to_owned(),
                |(lock, holder)| format!("{lock} held by {holder}"),
            ),
        }
    }

    /// A thread that the registry does not know. It has the name of the thread that started it,
    /// unless it took one: so tiny_http's are `ops-http`.
    fn foreign(tid: u32, thread: &KernelThread) -> Self {
        let dash = || "-".to_owned();
        let role = if thread.name.starts_with("ops") {
            Role::Ops
        } else {
            Role::Foreign
        };
        Self {
            name: thread.name.clone(),
            tid,
            role: role.as_str(),
            group: dash(),
            state: dash(),
            since: dash(),
            kernel: thread.summary(),
            request_id: dash(),
            provider: dash(),
            waits_for: dash(),
        }
    }

    fn cells(&self) -> [&str; 9] {
        [
            &self.name,
            self.role,
            &self.group,
            &self.state,
            &self.since,
            &self.kernel,
            &self.request_id,
            &self.provider,
            &self.waits_for,
        ]
    }
}

fn push_counts(text: &mut String, lines: &[Line]) {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in lines {
        *counts.entry((line.role, &line.state)).or_default() += 1;
    }
    let _ = writeln!(text, "{} threads", lines.len());
    for ((role, state), count) in counts {
        let _ = writeln!(text, "{count:>6} {role} {state}");
    }
    text.push('\n');
}

fn push_table(text: &mut String, lines: &[Line]) {
    const HEAD: [&str; 9] = [
        "NAME",
        "ROLE",
        "GROUP",
        "STATE",
        "SINCE",
        "KERNEL",
        "REQUEST",
        "PROVIDER",
        "WAITS FOR",
    ];
    let mut widths = HEAD.map(str::len);
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line.cells()) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut push = |tid: &str, cells: [&str; 9]| {
        let start = text.len();
        let _ = write!(text, "{tid:>8}");
        for (cell, width) in cells.into_iter().zip(widths) {
            let _ = write!(text, "  {cell:<width$}");
        }
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    };
    push("TID", HEAD);
    for line in lines {
        push(&line.tid.to_string(), line.cells());
    }
}

impl KernelThread {
    fn summary(&self) -> String {
        // Linux fixes USER_HZ at 100 on every architecture that we build for.
        format!(
            "{} {}.{:02}s",
            self.state,
            self.ticks / 100,
            self.ticks % 100
        )
    }

    /// Reads the line of `/proc/<pid>/task/<tid>/stat`.
    fn parse(stat: &str) -> Option<Self> {
        // The name stands in parentheses and may hold some itself.
        let (open, close) = (stat.find('(')?, stat.rfind(')')?);
        let name = stat.get(open + 1..close)?.to_owned();
        let mut fields = stat.get(close + 1..)?.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        // utime and stime are fields 14 and 15; state is the third.
        let mut times = fields.skip(10).map(str::parse::<u64>);
        Some(Self {
            name,
            state,
            ticks: times.next()?.ok()? + times.next()?.ok()?,
        })
    }
}

/// Every thread of this process by its id; empty where `/proc` is not to be had.
fn kernel_threads() -> BTreeMap<u32, KernelThread> {
    let Ok(folder) = fs::read_dir("/proc/self/task") else {
        return BTreeMap::new();
    };
    folder
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let tid = entry.file_name().to_str()?.parse().ok()?;
            // A name need not be UTF-8; a thread may end between the two looks.
            let stat = fs::read(entry.path().join("stat")).ok()?;
            Some((tid, KernelThread::parse(&String::from_utf8_lossy(&stat))?))
        })
        .collect()
}

/// Writes the text to a new file and removes the oldest beyond [`DUMPS_MAX`].
fn write_file(folder: &Path, text: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let name = format!(
        "{PREFIX}{}-{}{SUFFIX}",
        Utc::now().compact(),
        std::process::id()
    );
    let path = folder.join(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(&path)?;
    file.write_all(text.as_bytes())?;
    prune(folder)?;
    Ok(path)
}

fn prune(folder: &Path) -> io::Result<()> {
    let mut dumps: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let name = name.to_str()?;
            (name.starts_with(PREFIX) && name.ends_with(SUFFIX)).then(|| entry.path())
        })
        .collect();
    // The names begin with the time.
    dumps.sort();
    for oldest in dumps.iter().rev().skip(DUMPS_MAX) {
        fs::remove_file(oldest)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thread::State;

    fn row(name: &str, tid: u32) -> Row {
        Row {
            name: name.to_owned(),
            group: "ChatCoordinator",
            role: Role::Worker,
            state: State::WaitingFirstByte,
            tid,
            since_ms: 1234,
            request_id: "req-1".to_owned(),
            provider: "anthropic",
            waits_for: Some(("cache.shard", "w-Chat-2".to_owned())),
        }
    }

    #[test]
    fn the_kernels_line_is_read_whatever_the_name() {
        let check = |stat: &str, expected: Option<(&str, char, u64)>| {
            let got = KernelThread::parse(stat);
            let got = got
                .as_ref()
                .map(|got| (got.name.as_str(), got.state, got.ticks));
            assert_eq!(got, expected);
        };
        let rest = "1 1 1 0 -1 4194304 1 2 3 4 11 31 0 0 20 0";
        check(&format!("7 (log) S {rest}"), Some(("log", 'S', 42)));
        check(
            &format!("7 (a) R (b)) D {rest}"),
            Some(("a) R (b)", 'D', 42)),
        );
        check("7 (log) S 1 2", None);
        check("", None);
    }

    #[test]
    fn every_thread_is_a_line_with_what_it_does() {
        let thread = |name: &str| KernelThread {
            name: name.to_owned(),
            state: 'S',
            ticks: 205,
        };
        let kernel = BTreeMap::from([
            (10, thread("w-Chat-1")),
            (11, thread("ops-http")),
            (12, thread("jemalloc_bg_thd")),
        ]);
        let text = render_with(&[row("w-Chat-1", 10)], &kernel);
        let line = |name: &str| -> Vec<&str> {
            let line = text.lines().find(|line| line.contains(name));
            line.unwrap_or_else(|| panic!("{name} in {text}"))
                .split_ascii_whitespace()
                .collect()
        };
        assert_eq!(
            line("w-Chat-1").join(" "),
            "10 w-Chat-1 worker ChatCoordinator waiting_first_byte 1.234s S 2.05s req-1 \
             anthropic cache.shard held by w-Chat-2"
        );
        assert_eq!(line("ops-http")[..3], ["11", "ops-http", "ops"]);
        assert_eq!(line("jemalloc")[..3], ["12", "jemalloc_bg_thd", "foreign"]);
        assert!(text.contains("\n3 threads\n"), "{text}");
        assert!(text.contains("1 worker waiting_first_byte\n"), "{text}");
    }

    #[test]
    fn the_newest_dumps_are_kept() {
        let folder = std::env::temp_dir().join(format!("victor-dump-test-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for number in 0..DUMPS_MAX + 5 {
            let name = format!("{PREFIX}20260101T0000{number:02}.000Z-1{SUFFIX}");
            fs::write(folder.join(name), "").unwrap();
        }
        fs::write(folder.join("coordinators.log"), "").unwrap();
        let path = write_file(&folder, "text").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        let left = fs::read_dir(&folder).unwrap().count();
        let oldest = folder.join(format!("{PREFIX}20260101T000005.000Z-1{SUFFIX}"));
        let gone = !oldest.exists();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!((left, gone), (DUMPS_MAX + 1, true));
    }
}
