//! Whose file it is and which tables it has.
//!
//! `application_id` says that the file is ours, `user_version` how many of [`MIGRATIONS`] it has
//! seen. A migration is never changed once it was released: a further one is appended. A file of
//! a newer program is left alone.

use rusqlite::Connection;

/// `vict`: what the first bytes of our files say at offset 68 (SQLite's file format, section 1.3).
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"vict");

/// The steps from an empty file to the newest schema, each in a transaction of its own.
const MIGRATIONS: &[&str] = &[
    // 1: answered responses. What is large stands apart, so that looking at a row, or marking it
    // as used, does not touch it. The index by use serves both ways of making room, and adding up.
    "CREATE TABLE responses (
         seq INTEGER PRIMARY KEY,
         scope BLOB NOT NULL,
         id TEXT NOT NULL,
         previous TEXT,
         created INTEGER NOT NULL,
         used INTEGER NOT NULL,
         bytes INTEGER NOT NULL,
         UNIQUE (scope, id)
     ) STRICT;
     CREATE INDEX responses_by_use ON responses (used, bytes);
     CREATE TABLE response_contents (
         seq INTEGER PRIMARY KEY REFERENCES responses (seq) ON DELETE CASCADE,
         input BLOB NOT NULL,
         body BLOB NOT NULL
     ) STRICT;",
    // 2: cached answers, apart as well. The index by score serves reading and making room, the one
    // by expiry purging.
    "CREATE TABLE cache_entries (
         seq INTEGER PRIMARY KEY,
         key BLOB NOT NULL UNIQUE,
         coordinator TEXT NOT NULL,
         created INTEGER NOT NULL,
         expires INTEGER NOT NULL,
         score REAL NOT NULL,
         bytes INTEGER NOT NULL
     ) STRICT;
     CREATE INDEX cache_entries_by_score ON cache_entries (score);
     CREATE INDEX cache_entries_by_expiry ON cache_entries (expires);
     CREATE TABLE cache_bodies (
         seq INTEGER PRIMARY KEY REFERENCES cache_entries (seq) ON DELETE CASCADE,
         body BLOB NOT NULL
     ) STRICT;",
];

/// The schema that this program writes.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// What a file turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// Ours, of this schema: this one or an older one.
    Ours(usize),
    /// Empty: it can become ours.
    Empty,
    /// Of a program with a newer schema.
    Newer(i64),
    /// Some other program's.
    Foreign,
}

/// Looks at the file.
///
/// # Errors
/// It cannot be read, or is no SQLite file.
pub(super) fn identify(connection: &Connection) -> rusqlite::Result<Identity> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    if application == i64::from(APPLICATION_ID) {
        return Ok(match usize::try_from(version) {
            Ok(version) if version <= VERSION => Identity::Ours(version),
            _ => Identity::Newer(version),
        });
    }
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (application, version, tables) {
        (0, 0, 0) => Identity::Empty,
        _ => Identity::Foreign,
    })
}

/// Brings a file that has seen `version` migrations to the newest schema.
///
/// # Errors
/// A step failed; the steps before it hold.
pub(super) fn migrate(connection: &Connection, version: usize) -> rusqlite::Result<()> {
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        let step = format!(
            "BEGIN IMMEDIATE; {migration} PRAGMA application_id = {APPLICATION_ID}; \
             PRAGMA user_version = {}; COMMIT;",
            index + 1
        );
        if let Err(error) = connection.execute_batch(&step) {
            // Some errors have rolled back by themselves; then there is nothing to roll back.
            let _ = connection.execute_batch("ROLLBACK");
            return Err(error);
        }
    }
    Ok(())
}
