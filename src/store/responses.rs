//! The table of answered responses: what the Responses API's `store` and `previous_response_id`
//! need.
//!
//! A response names the one that it continues, so a conversation is a chain of rows. A row is
//! visible to its own scope only, until it was not used for the time to live; using a response
//! uses the chain behind it. What the rows hold together is bounded, and the least recently used
//! ones make room. Nothing here begins or ends a transaction: that is for whoever calls.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::{Kept, Scope};

/// Responses of one conversation; a longer one cannot be continued.
pub(super) const CHAIN_MAX: usize = 1_000;
/// What the responses of one conversation may hold together; also the most that one may hold.
pub(super) const CHAIN_BYTES_MAX: u64 = 64 << 20;
/// Expired rows deleted at a time, so that what is queued does not wait for all of them.
const PURGE_ROWS: usize = 256;
/// What a row costs besides its texts: the hash, the numbers, and its places in two indices.
const ROW_BYTES: u64 = 200;

/// How much is kept, for how long. Times are in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub ttl_ms: i64,
    pub bytes_max: u64,
}

impl Limits {
    /// Whether anything is kept at all.
    pub const fn keep_nothing(self) -> bool {
        self.ttl_ms == 0 || self.bytes_max == 0
    }

    /// What was last used at this time or before has expired at `now`.
    const fn expired(self, now: i64) -> i64 {
        now.saturating_sub(self.ttl_ms)
    }
}

/// What a table holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub rows: u64,
    pub bytes: u64,
}

impl Totals {
    pub fn add(&mut self, bytes: u64) {
        self.rows += 1;
        self.bytes += bytes;
    }

    pub fn remove(&mut self, bytes: u64) {
        self.rows = self.rows.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// The chain behind a response.
pub(super) enum Chain {
    /// The response or one before it is not there.
    Missing,
    /// Longer than a chain may be.
    TooLong,
    /// The rows, oldest first.
    Whole(Vec<i64>),
}

/// What `kept` counts for.
pub(super) fn bytes(kept: &Kept) -> u64 {
    let previous = kept.previous.as_ref().map_or(0, String::len);
    let texts = kept.id.len() + previous + kept.input.len() + kept.body.len();
    texts as u64 + ROW_BYTES
}

/// Adds the table up.
pub(super) fn totals(connection: &Connection) -> rusqlite::Result<Totals> {
    let sql = "SELECT count(*), coalesce(sum(bytes), 0) FROM responses";
    connection.query_row(sql, [], |row| {
        Ok(Totals {
            rows: row.get::<_, i64>(0)?.unsigned_abs(),
            bytes: row.get::<_, i64>(1)?.unsigned_abs(),
        })
    })
}

/// Adds a response, in the place of an older one of the same name and scope.
pub(super) fn insert(
    connection: &Connection,
    totals: &mut Totals,
    kept: &Kept,
    now: i64,
) -> rusqlite::Result<()> {
    remove(connection, totals, &kept.id, &kept.scope)?;
    let bytes = bytes(kept);
    connection.execute(
        "INSERT INTO responses (scope, id, previous, created, used, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            kept.scope,
            kept.id,
            kept.previous,
            i64::try_from(kept.created).unwrap_or(i64::MAX),
            now,
            i64::try_from(bytes).unwrap_or(i64::MAX),
        ],
    )?;
    connection.execute(
        "INSERT INTO response_contents (seq, input, body) VALUES (?1, ?2, ?3)",
        params![connection.last_insert_rowid(), kept.input, kept.body],
    )?;
    totals.add(bytes);
    Ok(())
}

/// Removes a response, expired or not. Gives whether it was there.
fn remove(
    connection: &Connection,
    totals: &mut Totals,
    id: &str,
    scope: &Scope,
) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM responses WHERE scope = ?1 AND id = ?2 RETURNING bytes";
    let bytes = connection
        .query_row(sql, params![scope, id], |row| row.get::<_, i64>(0))
        .optional()?;
    if let Some(bytes) = bytes {
        totals.remove(bytes.unsigned_abs());
    }
    Ok(bytes.is_some())
}

/// Removes a response at its owner's wish; gives whether there was one to be seen.
pub(super) fn delete(
    connection: &Connection,
    totals: &mut Totals,
    limits: Limits,
    (id, scope): (&str, &Scope),
    now: i64,
) -> rusqlite::Result<bool> {
    let sql = "SELECT used FROM responses WHERE scope = ?1 AND id = ?2";
    let used: Option<i64> = connection
        .query_row(sql, params![scope, id], |row| row.get(0))
        .optional()?;
    let is_visible = used.is_some_and(|used| used > limits.expired(now));
    Ok(remove(connection, totals, id, scope)? && is_visible)
}

/// The row of a visible response and those of the chain behind it, as far as it goes.
const CHAIN: &str = "WITH RECURSIVE chain (depth, seq, previous, bytes) AS (
         SELECT 1, seq, previous, bytes FROM responses
         WHERE scope = :scope AND id = :id AND used > :expired
         UNION ALL
         SELECT chain.depth + 1, r.seq, r.previous, r.bytes
         FROM chain CROSS JOIN responses AS r
         WHERE chain.depth <= :most AND r.scope = :scope AND r.id = chain.previous
           AND r.used > :expired
     ) ";

/// Looks for the chain behind `id`.
pub(super) fn chain(
    connection: &Connection,
    limits: Limits,
    (id, scope): (&str, &Scope),
    now: i64,
) -> rusqlite::Result<Chain> {
    let sql = format!("{CHAIN} SELECT seq, previous, bytes FROM chain ORDER BY depth DESC");
    let mut statement = connection.prepare(&sql)?;
    let mut found = statement.query(named_params! {
        ":scope": scope, ":id": id, ":expired": limits.expired(now), ":most": CHAIN_MAX as i64,
    })?;
    let (mut rows, mut bytes, mut is_whole) = (Vec::new(), 0, false);
    while let Some(row) = found.next()? {
        if rows.is_empty() {
            is_whole = row.get::<_, Option<String>>(1)?.is_none();
        }
        rows.push(row.get(0)?);
        bytes += row.get::<_, i64>(2)?.unsigned_abs();
    }
    Ok(match () {
        () if rows.len() > CHAIN_MAX || bytes > CHAIN_BYTES_MAX => Chain::TooLong,
        () if is_whole => Chain::Whole(rows),
        () => Chain::Missing,
    })
}

/// Marks a response and the chain behind it, as far as it goes, as used at the time
/// `used`.
pub(super) fn touch(
    connection: &Connection,
    limits: Limits,
    (id, scope): (&str, &Scope),
    (now, used): (i64, i64),
) -> rusqlite::Result<()> {
    let sql =
        format!("{CHAIN} UPDATE responses SET used = :used WHERE seq IN (SELECT seq FROM chain)");
    connection.execute(
        &sql,
        named_params! {
            ":scope": scope, ":id": id, ":expired": limits.expired(now), ":used": used,
            ":most": CHAIN_MAX as i64,
        },
    )?;
    Ok(())
}

const WHOLE_ROW: &str = "SELECT r.id, r.previous, r.scope, r.created, c.input, c.body
     FROM responses AS r JOIN response_contents AS c ON c.seq = r.seq ";

fn whole_row(row: &Row<'_>) -> rusqlite::Result<Kept> {
    Ok(Kept {
        id: row.get(0)?,
        previous: row.get(1)?,
        scope: row.get(2)?,
        created: row.get::<_, i64>(3)?.unsigned_abs(),
        input: row.get(4)?,
        body: row.get(5)?,
    })
}

/// Reads rows whole, in the order given.
pub(super) fn read(connection: &Connection, rows: &[i64]) -> rusqlite::Result<Vec<Kept>> {
    let mut statement = connection.prepare(&format!("{WHOLE_ROW} WHERE r.seq = ?1"))?;
    let one = |seq: &i64| statement.query_row([seq], whole_row);
    rows.iter().map(one).collect()
}

/// Reads one visible response.
pub(super) fn fetch(
    connection: &Connection,
    limits: Limits,
    (id, scope): (&str, &Scope),
    now: i64,
) -> rusqlite::Result<Option<Kept>> {
    let sql = format!("{WHOLE_ROW} WHERE r.scope = ?1 AND r.id = ?2 AND r.used > ?3");
    let key = params![scope, id, limits.expired(now)];
    connection.query_row(&sql, key, whole_row).optional()
}

/// What making room has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub expired: u64,
    pub for_room: u64,
    /// There may be more that has expired.
    pub more: bool,
}

/// Removes some of what has expired.
pub(super) fn purge(
    connection: &Connection,
    (totals, removed): (&mut Totals, &mut Removed),
    limits: Limits,
    now: i64,
) -> rusqlite::Result<()> {
    let sql = "SELECT seq, bytes FROM responses WHERE used <= ?1 ORDER BY used LIMIT ?2";
    let expired = oldest(connection, sql, [limits.expired(now), PURGE_ROWS as i64])?;
    removed.more = expired.len() == PURGE_ROWS;
    for row in expired {
        remove_row(connection, totals, row)?;
        removed.expired += 1;
    }
    Ok(())
}

/// Removes as many of the least recently used rows as it takes to come under the bound.
pub(super) fn make_room(
    connection: &Connection,
    (totals, removed): (&mut Totals, &mut Removed),
    limits: Limits,
) -> rusqlite::Result<()> {
    while totals.bytes > limits.bytes_max {
        let sql = "SELECT seq, bytes FROM responses WHERE used > ?1 ORDER BY used LIMIT ?2";
        let rows = oldest(connection, sql, [i64::MIN, PURGE_ROWS as i64])?;
        if rows.is_empty() {
            // The sum was wrong; an empty table holds nothing.
            *totals = Totals::default();
        }
        for row in rows {
            if totals.bytes <= limits.bytes_max {
                break;
            }
            remove_row(connection, totals, row)?;
            removed.for_room += 1;
        }
    }
    Ok(())
}

fn oldest(connection: &Connection, sql: &str, key: [i64; 2]) -> rusqlite::Result<Vec<(i64, u64)>> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map(key, |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
    })?;
    rows.collect()
}

fn remove_row(
    connection: &Connection,
    totals: &mut Totals,
    (seq, bytes): (i64, u64),
) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM responses WHERE seq = ?1", [seq])?;
    totals.remove(bytes);
    Ok(())
}
