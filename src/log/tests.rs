//! The log from end to end, without the process-wide logger.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;

use serde_json::Value;

use super::*;

/// A folder that is removed with everything in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "victor-log-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Running {
    logger: Logger,
    guard: LogGuard,
}

fn run(file: &Path, level: LevelFilter, directives: &str) -> Running {
    let logging = Logging {
        level,
        format: LogFormat::Json,
        file: Some(file.to_owned()),
    };
    let (logger, writer) = build(&logging, directives);
    let thread = thread::spawn("log-test", Role::Log, move || {
        writer.run();
        Ok(())
    });
    let guard = LogGuard {
        queue: Arc::clone(&logger.queue),
        thread: Some(thread.unwrap()),
    };
    Running { logger, guard }
}

impl Running {
    fn log(&self, level: Level, target: &str, message: &str) {
        let mut record = Record::builder();
        record.level(level).target(target);
        self.logger
            .record(&record.args(format_args!("{message}")).build());
    }

    fn flush(&self) {
        assert!(flush_queue(&self.logger.queue, Duration::from_secs(10)));
    }
}

fn messages(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let message = |line| -> String {
        let line: Value = serde_json::from_str(line).unwrap();
        line["message"].as_str().unwrap().to_owned()
    };
    text.lines().map(message).collect()
}

#[test]
fn lines_are_written_in_order_and_a_new_file_is_not_for_everyone() {
    let folder = Folder::new();
    let file = folder.0.join("new/victor.log");
    let log = run(&file, LevelFilter::Info, "");
    let expected: Vec<String> = (0..100).map(|number| format!("line {number}")).collect();
    for message in &expected {
        log.log(Level::Info, "victor", message);
    }
    drop(log.guard);
    assert_eq!(messages(&file), expected);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o027, 0, "at most owner and group: {mode:o}");
}

#[test]
fn levels_are_filtered_by_configuration_and_directives() {
    let folder = Folder::new();
    let file = folder.0.join("victor.log");
    let log = run(
        &file,
        LevelFilter::Warn,
        "victor::provider=debug,victor::call=off",
    );
    log.log(Level::Info, "victor::api", "quiet");
    log.log(Level::Warn, "victor::api", "loud");
    log.log(Level::Debug, "victor::provider", "asked for");
    log.logger.call(&CallRecord {
        status: 503,
        ..CallRecord::default()
    });
    log.flush();
    assert_eq!(messages(&file), ["loud", "asked for"]);
}

#[test]
fn a_renamed_file_is_created_anew_on_reopen() {
    let folder = Folder::new();
    let (file, rotated) = (folder.0.join("victor.log"), folder.0.join("victor.log.1"));
    let log = run(&file, LevelFilter::Info, "");
    log.log(Level::Info, "victor", "before");
    log.flush();
    fs::rename(&file, &rotated).unwrap();
    log.log(Level::Info, "victor", "between");
    log.flush();
    log.logger.reopen();
    log.flush();
    // The wake-up itself carries no line: the flush above was answered after it.
    log.log(Level::Info, "victor", "after");
    log.flush();
    assert_eq!(messages(&rotated), ["before", "between"]);
    assert_eq!(messages(&file), ["after"]);
}

#[test]
fn a_file_that_cannot_be_opened_is_tried_again_on_reopen() {
    let folder = Folder::new();
    let in_the_way = folder.0.join("not-a-folder");
    fs::write(&in_the_way, "").unwrap();
    let file = in_the_way.join("victor.log");
    let log = run(&file, LevelFilter::Info, "");
    assert!(log.logger.shared.is_stderr.load(Ordering::Relaxed));
    log.log(Level::Info, "victor", "a test's line on stderr");
    log.flush();
    fs::remove_file(&in_the_way).unwrap();
    log.logger.reopen();
    log.flush();
    log.log(Level::Info, "victor", "in the file");
    log.flush();
    assert_eq!(messages(&file), ["in the file"]);
    assert_eq!(log.logger.queue.dropped_total(), 0);
}

#[test]
fn a_full_disk_moves_the_log_to_stderr_and_loses_nothing() {
    let log = run(Path::new("/dev/full"), LevelFilter::Info, "");
    log.log(Level::Info, "victor", "a test's line for a full disk");
    log.flush();
    assert!(log.logger.shared.is_stderr.load(Ordering::Relaxed));
    assert_eq!(log.logger.queue.dropped_total(), 0);
}

#[test]
fn a_full_queue_drops_and_counts() {
    let folder = Folder::new();
    let logging = Logging {
        level: LevelFilter::Info,
        format: LogFormat::Json,
        file: Some(folder.0.join("victor.log")),
    };
    // The writer exists, so the queue is open, but it does not run.
    let (logger, writer) = build(&logging, "");
    for _ in 0..QUEUE_LINES + 3 {
        logger.call(&CallRecord::default());
    }
    assert_eq!(logger.queue.dropped_total(), 3);
    drop(writer);
}
