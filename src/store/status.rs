//! How the store is doing: what it counts, what health shows, and what is worth a line in the log.
//!
//! Every failure is counted; a line is written for the first one and then at most once a minute,
//! with how many there were since. Read from any thread; the lock is held for a copy only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::StoreError;
use super::responses::Totals;
use crate::sync::Mutex;

/// How often a line about failures may be written.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Counters and gauges. All relaxed: they are read by humans.
#[derive(Debug, Default)]
pub struct Stats {
    /// Writes that hold.
    pub writes_ok: AtomicU64,
    /// Writes that the database did not take.
    pub writes_failed: AtomicU64,
    /// Writes that were never queued.
    pub writes_dropped: AtomicU64,
    /// Responses removed because they were not used for their time to live.
    pub evicted_ttl: AtomicU64,
    /// Responses removed to make room.
    pub evicted_size: AtomicU64,
    /// Responses in the table.
    pub responses: AtomicU64,
    /// What they hold.
    pub responses_bytes: AtomicU64,
    /// Cached answers in the table.
    pub cache_entries: AtomicU64,
    /// What they hold.
    pub cache_bytes: AtomicU64,
    /// Files set aside since the start.
    pub set_aside: AtomicU64,
}

/// Whether the database can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is still being opened.
    Opening,
    /// Reads and writes.
    Working,
    /// The last write failed, or was dropped.
    Failing,
    /// It cannot be opened.
    Unavailable,
}

/// What health shows of the database.
#[derive(Clone, Debug)]
pub struct Report {
    pub condition: Condition,
    /// A sentence; without the file's path, since health needs no key.
    pub message: String,
    /// Of the last batch of statements.
    pub latency: Option<Duration>,
    /// When it was last used.
    pub checked: SystemTime,
    /// Failures in a row.
    pub failures: u32,
}

/// Lets one line through, and then one a minute with a count.
#[derive(Debug, Default)]
struct Throttle {
    last: Option<Instant>,
    unsaid: u64,
}

impl Throttle {
    /// How many were not said since the last line, if a line may be written now.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        let may = |last| now.saturating_duration_since(last) >= SAY_EVERY;
        if self.last.is_none_or(may) {
            self.last = Some(now);
            return Some(std::mem::take(&mut self.unsaid));
        }
        self.unsaid += 1;
        None
    }
}

struct Inner {
    report: Report,
    losses: Throttle,
    /// Writes lost since writing last worked.
    lost: u64,
    /// While the database cannot be opened: when it is worth asking for it again.
    retry_at: Option<Instant>,
}

/// Shared by the store's thread and everyone who asks.
pub(super) struct Status {
    pub stats: Stats,
    inner: Mutex<Inner>,
}

impl Status {
    pub fn new() -> Self {
        let report = Report {
            condition: Condition::Opening,
            message: "is being opened".to_owned(),
            latency: None,
            checked: SystemTime::now(),
            failures: 0,
        };
        let inner = Inner {
            report,
            losses: Throttle::default(),
            lost: 0,
            retry_at: None,
        };
        Self {
            stats: Stats::default(),
            inner: Mutex::new("store.status", inner),
        }
    }

    pub fn report(&self) -> Report {
        self.inner.lock().report.clone()
    }

    /// What is behind `error`, as far as it is known.
    pub fn why(&self, error: StoreError) -> String {
        let inner = self.inner.lock();
        match inner.report.condition {
            Condition::Failing | Condition::Unavailable => inner.report.message.clone(),
            Condition::Opening | Condition::Working => error.to_string(),
        }
    }

    /// Whether asking for the database is pointless for now.
    pub fn is_out(&self) -> bool {
        let retry_at = self.inner.lock().retry_at;
        retry_at.is_some_and(|retry_at| Instant::now() < retry_at)
    }

    /// The database is open.
    pub fn opened(&self, latency: Duration) {
        let mut inner = self.inner.lock();
        inner.retry_at = None;
        inner.note(Condition::Working, "open");
        inner.report.latency = Some(latency);
        inner.report.failures = 0;
    }

    /// The database cannot be opened.
    pub fn unavailable(&self, why: &str, retry_at: Instant) {
        let mut inner = self.inner.lock();
        inner.retry_at = Some(retry_at);
        inner.note(Condition::Unavailable, &format!("cannot be opened: {why}"));
        inner.fail();
    }

    /// A batch went through; `wrote` says whether there was anything to write in it.
    pub fn worked(&self, latency: Duration, wrote: bool) {
        let lost = {
            let mut inner = self.inner.lock();
            inner.report.latency = Some(latency);
            inner.report.checked = SystemTime::now();
            // That reading works says nothing of a full disk.
            if inner.report.condition == Condition::Failing && !wrote {
                return;
            }
            let was_failing = inner.report.condition == Condition::Failing;
            inner.note(Condition::Working, "open");
            inner.report.failures = 0;
            let lost = std::mem::take(&mut inner.lost);
            was_failing.then_some(lost)
        };
        if let Some(lost) = lost {
            log::info!(lost; "the database takes writes again");
        }
    }

    /// The database did not do what it was asked for.
    pub fn failed(&self, why: &str) {
        let mut inner = self.inner.lock();
        inner.note(Condition::Failing, why);
        inner.fail();
    }

    /// A response was lost, for the reason given.
    pub fn lost(&self, why: &str) {
        let unsaid = {
            let mut inner = self.inner.lock();
            inner.lost += 1;
            inner.losses.admit(Instant::now())
        };
        match unsaid {
            None => {}
            Some(0) => log::warn!("a response could not be stored: {why}"),
            Some(unsaid) => log::warn!(
                unsaid;
                "a response could not be stored: {why} ({unsaid} more since the last such line)"
            ),
        }
    }

    /// What the tables hold now.
    pub fn holds(&self, responses: Totals, cache: Totals) {
        let stats = &self.stats;
        for (gauge, value) in [
            (&stats.responses, responses.rows),
            (&stats.responses_bytes, responses.bytes),
            (&stats.cache_entries, cache.rows),
            (&stats.cache_bytes, cache.bytes),
        ] {
            gauge.store(value, Ordering::Relaxed);
        }
    }
}

impl Inner {
    fn note(&mut self, condition: Condition, message: &str) {
        self.report.condition = condition;
        message.clone_into(&mut self.report.message);
        self.report.checked = SystemTime::now();
    }

    fn fail(&mut self) {
        self.report.failures = self.report.failures.saturating_add(1);
    }
}

/// One more of what is counted.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_says_how_many_there_were() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        let mut at = |seconds| throttle.admit(start + Duration::from_secs(seconds));
        assert_eq!(at(0), Some(0));
        assert_eq!((at(1), at(59)), (None, None));
        assert_eq!(at(60), Some(2));
        assert_eq!(at(61), None);
        assert_eq!(at(200), Some(1));
    }

    #[test]
    fn reading_does_not_end_a_failure_and_writing_does() {
        let status = Status::new();
        status.opened(Duration::ZERO);
        status.failed("the disk is full");
        status.failed("the disk is full");
        status.worked(Duration::ZERO, false);
        let report = status.report();
        assert_eq!((report.condition, report.failures), (Condition::Failing, 2));
        assert_eq!(report.message, "the disk is full");
        status.worked(Duration::ZERO, true);
        let report = status.report();
        assert_eq!((report.condition, report.failures), (Condition::Working, 0));
    }
}
