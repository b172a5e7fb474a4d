//! The table of cached answers: what the cache keeps over a restart.
//!
//! An answer is opaque here, and is found by its score, highest first. What is large stands apart,
//! as with `responses.rs`, so that a new score does not write an answer again. Rows are removed and
//! written a few at a time, since other jobs wait meanwhile. Nothing here begins or ends a
//! transaction: that is for whoever calls.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::responses::Totals;
use super::snapshot::{CacheCursor, CacheMark, CachePage, CacheRow};

/// What one transaction writes or removes before others have their turn; what goes over it is the
/// last of it.
pub(super) const CHUNK_ROWS: usize = 256;
/// The same in bytes.
pub(super) const CHUNK_BYTES: u64 = 1 << 20;
/// What a row may hold: a larger answer is not stored.
pub(super) const BODY_BYTES_MAX: usize = 16 << 20;
/// What is read at a time.
const PAGE_BYTES: u64 = 8 << 20;
/// The same in rows.
const PAGE_ROWS: usize = 1_024;
/// Expired rows removed within any other transaction, in rows and in bytes: little enough not to be
/// noticed.
const PURGE_ROWS: usize = 64;
const PURGE_BYTES: u64 = 1 << 20;
/// What a row costs besides its texts: the key, the numbers, and its places in four indices.
const ROW_BYTES: u64 = 250;

/// A row without its answer.
pub(super) struct Place {
    pub seq: i64,
    pub key: [u8; 32],
    pub created: u64,
    pub expires: u64,
    pub score: f64,
    pub bytes: u64,
}

/// What an answer of `body` bytes counts for.
pub(super) fn bytes(mark: &CacheMark, body: usize) -> u64 {
    (mark.coordinator.len() + body) as u64 + ROW_BYTES
}

/// Adds the table up.
pub(super) fn totals(connection: &Connection) -> rusqlite::Result<Totals> {
    let sql = "SELECT count(*), coalesce(sum(bytes), 0) FROM cache_entries";
    connection.query_row(sql, [], |row| {
        Ok(Totals {
            rows: row.get::<_, i64>(0)?.unsigned_abs(),
            bytes: row.get::<_, i64>(1)?.unsigned_abs(),
        })
    })
}

/// Adds a row; there must be none of its key.
pub(super) fn insert(
    connection: &Connection,
    totals: &mut Totals,
    mark: &CacheMark,
    body: &[u8],
) -> rusqlite::Result<()> {
    let bytes = bytes(mark, body.len());
    let sql = "INSERT INTO cache_entries (key, coordinator, created, expires, score, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let row = params![
        mark.key,
        mark.coordinator,
        signed(mark.created),
        signed(mark.expires),
        mark.score(),
        signed(bytes),
    ];
    connection.execute(sql, row)?;
    let sql = "INSERT INTO cache_bodies (seq, body) VALUES (?1, ?2)";
    let row = params![connection.last_insert_rowid(), body];
    connection.execute(sql, row)?;
    totals.add(bytes);
    Ok(())
}

/// Changes a row's score.
pub(super) fn set_score(connection: &Connection, seq: i64, score: f64) -> rusqlite::Result<()> {
    let sql = "UPDATE cache_entries SET score = ?2 WHERE seq = ?1";
    connection.execute(sql, params![seq, score]).map(drop)
}

/// Removes a row that holds `bytes`.
pub(super) fn remove(
    connection: &Connection,
    totals: &mut Totals,
    (seq, bytes): (i64, u64),
) -> rusqlite::Result<()> {
    let sql = "DELETE FROM cache_entries WHERE seq = ?1";
    connection.execute(sql, [seq])?;
    totals.remove(bytes);
    Ok(())
}

/// The next rows behind `after` in the order in which they were written; those of `coordinator`
/// only, if one is named.
pub(super) fn places(
    connection: &Connection,
    coordinator: Option<&str>,
    after: i64,
) -> rusqlite::Result<Vec<Place>> {
    let sql = "SELECT seq, key, created, expires, score, bytes FROM cache_entries
         WHERE seq > ?1 AND (?2 IS NULL OR coordinator = ?2) ORDER BY seq LIMIT ?3";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map(params![after, coordinator, CHUNK_ROWS as i64], |row| {
        Ok(Place {
            seq: row.get(0)?,
            key: row.get(1)?,
            created: unsigned(row, 2)?,
            expires: unsigned(row, 3)?,
            score: row.get(4)?,
            bytes: unsigned(row, 5)?,
        })
    })?;
    rows.collect()
}

/// The row of the lowest score: that, its place, and what it holds.
pub(super) fn lowest(connection: &Connection) -> rusqlite::Result<Option<(f64, (i64, u64))>> {
    let sql = "SELECT score, seq, bytes FROM cache_entries ORDER BY score, seq LIMIT 1";
    let row = |row: &Row<'_>| Ok((row.get(0)?, (row.get(1)?, unsigned(row, 2)?)));
    connection.query_row(sql, [], row).optional()
}

/// Removes some of what has expired; gives whether there may be more.
pub(super) fn purge(
    connection: &Connection,
    totals: &mut Totals,
    now: i64,
) -> rusqlite::Result<bool> {
    if totals.rows == 0 {
        return Ok(false);
    }
    let sql = "SELECT seq, bytes FROM cache_entries WHERE expires <= ?1 ORDER BY expires LIMIT ?2";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([now, PURGE_ROWS as i64], |row| {
        Ok((row.get(0)?, unsigned(row, 1)?))
    })?;
    let expired = rows.collect::<rusqlite::Result<Vec<(i64, u64)>>>()?;
    let (count, mut bytes) = (expired.len(), 0);
    for row in expired {
        if bytes >= PURGE_BYTES {
            return Ok(true);
        }
        bytes += row.1;
        remove(connection, totals, row)?;
    }
    Ok(count == PURGE_ROWS)
}

/// Reads the next rows behind `after` whole, by score, highest first, without those that have
/// expired.
pub(super) fn load(
    connection: &Connection,
    coordinator: Option<&str>,
    items: usize,
    after: Option<CacheCursor>,
    now: i64,
) -> rusqlite::Result<CachePage> {
    let most = items.min(PAGE_ROWS);
    // The join is in this order, so that an answer is only read when it is its row's turn.
    let sql = "SELECT e.seq, e.bytes, e.score, e.key, e.coordinator, e.created, e.expires, b.body
         FROM cache_entries AS e CROSS JOIN cache_bodies AS b ON b.seq = e.seq
         WHERE (e.score, e.seq) < (?1, ?2) AND e.expires > ?3
           AND (?4 IS NULL OR e.coordinator = ?4)
         ORDER BY e.score DESC, e.seq DESC LIMIT ?5";
    let mut statement = connection.prepare(sql)?;
    let CacheCursor { score, seq } = after.unwrap_or(CacheCursor::START);
    let mut found = statement.query(params![score, seq, now, coordinator, most as i64])?;
    let (mut page, mut bytes) = (CachePage::default(), 0);
    let mut last = after;
    while let Some(row) = found.next()? {
        bytes += unsigned(row, 1)?;
        if bytes > PAGE_BYTES && !page.rows.is_empty() {
            page.next = last;
            return Ok(page);
        }
        let score = row.get(2)?;
        last = Some(CacheCursor {
            score,
            seq: row.get(0)?,
        });
        page.rows.push(CacheRow {
            mark: CacheMark {
                key: row.get(3)?,
                coordinator: row.get::<_, String>(4).map(Arc::from)?,
                created: unsigned(row, 5)?,
                expires: unsigned(row, 6)?,
                score,
            },
            body: row.get(7)?,
        });
    }
    if page.rows.len() == most {
        page.next = last;
    }
    Ok(page)
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
