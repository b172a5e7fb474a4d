//! The limit of open files, and how many connections it leaves room for.
//!
//! A connection is one descriptor. Running out of them must never be how a limit is found:
//! what the rest of the process needs is set aside before the first client comes.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors set aside for everything but clients and providers: standard streams, log, dumps,
/// SQLite with its journal, pollers, listeners, `/proc`, the ops plane with its 64 connections, and
/// the admin plane with its 16.
pub const RESERVE_BASE: usize = 176;

/// Raises the soft limit of open files to the hard one and returns it; [`u64::MAX`] stands for
/// none.
///
/// # Errors
/// The system refuses, which it does not for a soft limit within the hard one.
pub fn raise_open_files() -> io::Result<u64> {
    let before = getrlimit(Resource::Nofile);
    if before.current != before.maximum {
        let raised = Rlimit {
            current: before.maximum,
            maximum: before.maximum,
        };
        setrlimit(Resource::Nofile, raised)?;
    }
    let now = getrlimit(Resource::Nofile);
    Ok(now.current.unwrap_or(u64::MAX))
}

/// How many clients may be connected, with the sentence to log if it is fewer than configured.
///
/// `limit` is the number of files that may be open, `reserve` what everything but clients needs:
/// [`RESERVE_BASE`] and the connections of all providers and of the shared cache.
pub fn connection_budget(
    max_connections: usize,
    limit: u64,
    reserve: usize,
) -> (usize, Option<String>) {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let room = limit.saturating_sub(reserve);
    if max_connections <= room {
        return (max_connections, None);
    }
    // A process that may open next to nothing still serves one client at a time.
    let budget = room.max(1);
    let needed = max_connections.saturating_add(reserve);
    let warning = format!(
        "server.max_connections is {budget} instead of {max_connections}: the limit of open files \
         is {limit} and {reserve} of them are kept for providers, logs, the database and the ops \
         plane; raise LimitNOFILE (ulimit -n) to {needed}"
    );
    (budget, Some(warning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(max_connections: usize, limit: u64, expected: usize, warns: bool) {
        let (budget, warning) = connection_budget(max_connections, limit, 100);
        assert_eq!((budget, warning.is_some()), (expected, warns));
    }

    #[test]
    fn connections_are_cut_to_what_the_reserve_leaves() {
        check(10_000, u64::MAX, 10_000, false);
        check(10_000, 10_100, 10_000, false);
        check(10_000, 10_099, 9_999, true);
        check(10_000, 1024, 924, true);
        check(10_000, 100, 1, true);
        check(10_000, 0, 1, true);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let soft = raise_open_files().unwrap();
        let hard = getrlimit(Resource::Nofile).maximum;
        assert_eq!(soft, hard.unwrap_or(u64::MAX));
    }
}
