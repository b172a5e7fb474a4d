//! The file on the disk: opening it, telling whose it is, and setting a damaged one aside.
//!
//! The file holds prompts and answers, so it is made for its owner only; SQLite gives the files
//! beside it (`-wal`, `-shm`) the same permissions. Nothing here deletes data: what cannot be used
//! is renamed.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::trace::{TraceEvent, TraceEventCodes};
use rusqlite::{Connection, Error, ErrorCode, OpenFlags};

use super::schema::{self, Identity};
use crate::clock::Utc;

/// How long a statement waits for another process that has the file locked, such as an operator's
/// shell.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(2);
/// Set-aside files that may lie beside the file; with so many of them somebody has to look first.
const SET_ASIDE_MAX: usize = 16;
/// Free pages that the file may keep for what comes next; beyond that they are given back.
const FREE_PAGES_MAX: i64 = 4_096;
/// How many pages are given back at a time.
const FREED_PAGES: i64 = 1_024;
/// What SQLite appends to the names of its other files.
const COMPANIONS: [&str; 3] = ["", "-wal", "-shm"];

/// Settings of every connection. The page cache is small: the daemon promises to be. The journal
/// is cut back to 16 MiB after something large went through it.
const SETTINGS: &str = "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -1024; \
    PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0; PRAGMA journal_size_limit = 16777216; \
    PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;";

/// Why the file was not opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// It is damaged, or another program's, as the text says.
    Unusable(String),
    /// Anything else; trying again may help.
    Failed(String),
}

/// An open file.
pub(super) struct File {
    pub connection: Connection,
    /// Device and inode, to notice that another file has taken its place.
    identity: (u64, u64),
    traced: bool,
}

impl File {
    /// Opens the file, made if it is missing, and brings its schema up to date. `settings` are run
    /// behind those of every connection.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: &Path, settings: &str, traced: bool) -> Result<Self, OpenError> {
        let failed = |error: io::Error| OpenError::Failed(error.to_string());
        make(path).map_err(failed)?;
        let mut file = Self {
            identity: identity(path).map_err(failed)?,
            connection: connect(path).map_err(|error| judge_open(&error))?,
            traced: false,
        };
        file.trace(traced).map_err(|error| judge(&error))?;
        file.prepare()?;
        let further = file.connection.execute_batch(settings);
        further.map_err(|error| judge(&error))?;
        Ok(file)
    }

    fn prepare(&self) -> Result<(), OpenError> {
        let connection = &self.connection;
        let version = match schema::identify(connection).map_err(|error| judge(&error))? {
            Identity::Ours(version) => version,
            Identity::Empty => 0,
            Identity::Foreign => {
                return Err(OpenError::Unusable(
                    "it belongs to another program".to_owned(),
                ));
            }
            Identity::Newer(version) => {
                return Err(OpenError::Failed(format!(
                    "it was written by a newer version of this program (its schema is {version}, \
                     the newest known here {}); run that version, or move the file away",
                    schema::VERSION
                )));
            }
        };
        self.set_up(version).map_err(|error| judge_schema(&error))
    }

    fn set_up(&self, version: usize) -> rusqlite::Result<()> {
        let connection = &self.connection;
        if version == 0 {
            // Only has an effect while there is no table.
            connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
        }
        connection.execute_batch(SETTINGS)?;
        let mode: String =
            connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            // A file system without shared memory. There NORMAL could lose more than the newest
            // writes when the power fails.
            connection.execute_batch("PRAGMA synchronous = FULL")?;
        }
        schema::migrate(connection, version)
    }

    /// Whether the file at `path` is still the one that is open.
    pub fn is_at(&self, path: &Path) -> bool {
        identity(path).is_ok_and(|identity| identity == self.identity)
    }

    /// Gives some of the space back that the file has too much of; gives whether there is more.
    pub fn shrink(&self) -> rusqlite::Result<bool> {
        let count = || {
            let sql = "PRAGMA freelist_count";
            self.connection
                .query_row(sql, [], |row| row.get::<_, i64>(0))
        };
        let free = count()?;
        if free <= FREE_PAGES_MAX {
            return Ok(false);
        }
        let sql = format!("PRAGMA incremental_vacuum({FREED_PAGES})");
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        // A page a step.
        while rows.next()?.is_some() {}
        // A file that cannot give space back is not asked again at once.
        Ok(count()? < free)
    }

    /// Begins or ends logging each statement's text and time; values are bound and never shown.
    pub fn trace(&mut self, traced: bool) -> rusqlite::Result<()> {
        if self.traced == traced {
            return Ok(());
        }
        // SQLite's own clock has milliseconds only; one statement is run at a time.
        let mut started = Instant::now();
        let log = move |event: TraceEvent<'_>| match event {
            // What statements run within themselves is shown as a comment.
            TraceEvent::Stmt(_, text) if !text.starts_with("--") => started = Instant::now(),
            TraceEvent::Profile(statement, _) => {
                let duration_ms = started.elapsed().as_micros() as f64 / 1000.0;
                let text = statement.sql();
                let words: Vec<&str> = text.trim_end_matches(';').split_whitespace().collect();
                log::info!(duration_ms; "query: {}", words.join(" "));
            }
            _ => {}
        };
        let codes = TraceEventCodes::SQLITE_TRACE_STMT | TraceEventCodes::SQLITE_TRACE_PROFILE;
        self.connection.trace_v2(codes, traced.then_some(log))?;
        self.traced = traced;
        Ok(())
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // One thread has the connection: SQLite's own locks would only cost.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WAIT_MAX)?;
    Ok(connection)
}

/// Makes the file if it is missing, and sees that it can be written to.
fn make(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options.open(path).map(drop)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Whether an error says that the file's content is not what it must be.
pub(super) fn is_damage(error: &Error) -> bool {
    match error {
        Error::FromSqlConversionFailure(..)
        | Error::InvalidColumnType(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..) => true,
        error => matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        ),
    }
}

fn judge(error: &Error) -> OpenError {
    if is_damage(error) {
        OpenError::Unusable(format!("it is damaged: {error}"))
    } else {
        OpenError::Failed(error.to_string())
    }
}

/// As [`judge`], for the opening itself: SQLite's own words would hold the path.
fn judge_open(error: &Error) -> OpenError {
    match error.sqlite_error() {
        Some(code) if !is_damage(error) => OpenError::Failed(code.to_string()),
        _ => judge(error),
    }
}

/// As [`judge`]; but where a file of ours lacks a table it is damaged, too. Public, since only
/// reading a table shows that.
pub(super) fn judge_schema(error: &Error) -> OpenError {
    let lacks_table = matches!(error, Error::SqlInputError { .. })
        || error.sqlite_error_code() == Some(ErrorCode::Unknown);
    if lacks_table {
        OpenError::Unusable(format!("it is damaged: {error}"))
    } else {
        judge(error)
    }
}

/// Renames the file and those beside it to `PATH.damaged-TIME`; gives that name.
///
/// # Errors
/// The folder cannot be written to, or there are [`SET_ASIDE_MAX`] such files already.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let stem = with(path, ".damaged-");
    if count(&stem)? >= SET_ASIDE_MAX {
        let message = format!("{SET_ASIDE_MAX} damaged files lie beside it already");
        return Err(io::Error::other(message));
    }
    let mut to = with(&stem, &Utc::now().compact());
    let mut number = 1;
    while to.exists() {
        number += 1;
        to = with(&stem, &format!("{}-{number}", Utc::now().compact()));
    }
    // The file itself goes first: what would be left behind by an end half-way belongs to no
    // file, and SQLite drops it.
    for companion in COMPANIONS {
        match fs::rename(with(path, companion), with(&to, companion)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
    }
    Ok(to)
}

/// How many files were set aside under `stem`, not counting their companions.
fn count(stem: &Path) -> io::Result<usize> {
    let (Some(folder), Some(prefix)) = (stem.parent(), stem.file_name()) else {
        return Ok(0);
    };
    let prefix = prefix.as_encoded_bytes();
    let names = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.file_name()));
    let is_one = |name: &OsString| {
        let name = name.as_encoded_bytes();
        name.starts_with(prefix) && !name.ends_with(b"-wal") && !name.ends_with(b"-shm")
    };
    Ok(names.filter(is_one).count())
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
