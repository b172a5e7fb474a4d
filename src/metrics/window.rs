//! The last five minutes of something that succeeds or fails and takes a time.
//!
//! A window is thirty slices of ten seconds. A slice belongs to one stretch of time and is emptied
//! by whoever first records in the next stretch that it serves, under a lock taken once in ten
//! seconds; otherwise recording is three atomic additions. Time is an argument, so a process that
//! records nothing does nothing. Latencies go into logarithmic buckets, a tenth wide each:
//! quantiles are within five per cent of the true value, from a microsecond to twenty minutes.
//!
//! Recording and emptying can meet only if a thread sleeps for five minutes between reading a
//! slice's number and adding to it; its one event is then counted in the wrong slice.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::sync::Mutex;

/// How far back a window reaches.
pub const WINDOW: Duration = Duration::from_secs(300);
const SLICE_SECONDS: u64 = 10;
const SLICES: usize = 30;
/// Each bucket is this much wider than the one before.
const GROWTH: f64 = 1.1;
/// Buckets from 1 µs to 1.1^220 µs, which is 1,280 s.
const BUCKETS: usize = 221;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub error: bool,
    /// `None` if the event has no meaningful time: it is then in no quantile.
    pub latency: Option<Duration>,
}

struct Slice {
    /// The number of the ten seconds that it counts, plus one; 0 if it was never used.
    stretch: AtomicU64,
    count: AtomicU64,
    errors: AtomicU64,
    latencies: Box<[AtomicU32]>,
}

/// Counts and latencies of the last [`WINDOW`].
pub struct Window {
    slices: Box<[Slice]>,
    turning: Mutex<()>,
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

impl Window {
    /// An empty window, 27 KiB large.
    pub fn new() -> Self {
        Self::with_buckets(BUCKETS)
    }

    /// An empty window that forgets latencies, 1 KiB large.
    pub fn of_counts() -> Self {
        Self::with_buckets(0)
    }

    fn with_buckets(buckets: usize) -> Self {
        let slice = || Slice {
            stretch: AtomicU64::new(0),
            count: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            latencies: (0..buckets).map(|_| AtomicU32::new(0)).collect(),
        };
        Self {
            slices: (0..SLICES).map(|_| slice()).collect(),
            turning: Mutex::new("metrics.window", ()),
        }
    }

    /// Counts `event` at `now`, the time since the process started.
    pub fn record(&self, now: Duration, event: Event) {
        let stretch = stretch_of(now);
        let slice = &self.slices[(stretch % SLICES as u64) as usize];
        if slice.stretch.load(Ordering::Acquire) != stretch && !self.turn(slice, stretch) {
            return;
        }
        slice.count.fetch_add(1, Ordering::Relaxed);
        if event.error {
            slice.errors.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(latency) = event.latency
            && let Some(bucket) = slice.latencies.get(bucket_of(latency))
        {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Empties `slice` for `stretch`. False if it already serves a later one: the event is older
    /// than the window.
    fn turn(&self, slice: &Slice, stretch: u64) -> bool {
        let _turning = self.turning.lock();
        let current = slice.stretch.load(Ordering::Relaxed);
        if current >= stretch {
            return current == stretch;
        }
        slice.count.store(0, Ordering::Relaxed);
        slice.errors.store(0, Ordering::Relaxed);
        for bucket in &slice.latencies {
            bucket.store(0, Ordering::Relaxed);
        }
        slice.stretch.store(stretch, Ordering::Release);
        true
    }

    /// What was counted in the window that ends at `now`.
    pub fn view(&self, now: Duration) -> View {
        let mut view = View::empty(now);
        let last = stretch_of(now);
        for slice in &self.slices {
            let stretch = slice.stretch.load(Ordering::Acquire);
            if stretch == 0 || stretch > last || stretch + SLICES as u64 <= last {
                continue;
            }
            view.count += slice.count.load(Ordering::Relaxed);
            view.errors += slice.errors.load(Ordering::Relaxed);
            for (sum, bucket) in view.latencies.iter_mut().zip(&slice.latencies) {
                *sum += u64::from(bucket.load(Ordering::Relaxed));
            }
        }
        // An event is counted in three steps; a reader between them must not see more errors
        // than events.
        view.errors = view.errors.min(view.count);
        view
    }
}

fn stretch_of(now: Duration) -> u64 {
    now.as_secs() / SLICE_SECONDS + 1
}

fn bucket_of(latency: Duration) -> usize {
    let micros = latency.as_secs_f64() * 1e6;
    if micros <= 1.0 {
        return 0;
    }
    ((micros.ln() / GROWTH.ln()) as usize).min(BUCKETS - 1)
}

/// What a window held; views of several windows can be added up.
#[derive(Clone, Debug)]
pub struct View {
    /// Events.
    pub count: u64,
    /// Those that failed; never more than `count`.
    pub errors: u64,
    /// How much time the window covers: up to 300 s, less while the process is younger.
    pub span: Duration,
    latencies: Box<[u64]>,
}

impl View {
    /// A view without events, of the window that ends at `now`.
    pub fn empty(now: Duration) -> Self {
        let into_slice = now.as_secs_f64() % SLICE_SECONDS as f64;
        let span = (WINDOW.as_secs() - SLICE_SECONDS) as f64 + into_slice;
        Self {
            count: 0,
            errors: 0,
            span: Duration::from_secs_f64(span).min(now),
            latencies: vec![0; BUCKETS].into(),
        }
    }

    /// Adds what `other` counted.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.errors += other.errors;
        for (sum, bucket) in self.latencies.iter_mut().zip(&other.latencies) {
            *sum += bucket;
        }
    }

    /// The share of events that failed, from 0 to 1; `None` without events.
    pub fn error_rate(&self) -> Option<f64> {
        (self.count > 0).then(|| self.errors as f64 / self.count as f64)
    }

    /// Events a second; 0 without events. A process younger than a second counts as one old, so
    /// that its first call is not a thousand a second.
    pub fn throughput(&self) -> f64 {
        self.count as f64 / self.span.as_secs_f64().max(1.0)
    }

    /// The latency below which a share `q` of the events lies, within 5 %; `None` without any.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let total: u64 = self.latencies.iter().sum();
        let rank = ((q * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        let bucket = self.latencies.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        // The geometric middle is equally far from both ends of the bucket.
        let micros = GROWTH.powf(bucket as f64 + 0.5);
        Some(Duration::from_secs_f64(micros / 1e6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn event(error: bool, micros: u64) -> Event {
        Event {
            error,
            latency: Some(Duration::from_micros(micros)),
        }
    }

    #[test]
    fn without_events_there_is_no_rate_and_no_quantile() {
        let view = Window::new().view(at(1000));
        assert_eq!(view.error_rate(), None);
        assert_eq!(view.quantile(0.95), None);
        assert!(view.throughput().abs() < f64::EPSILON);
    }

    #[test]
    fn events_leave_the_window_after_five_minutes() {
        let window = Window::new();
        window.record(at(5), event(true, 10));
        window.record(at(12), event(false, 10));
        let seen = |now: u64| {
            let view = window.view(at(now));
            (view.count, view.errors)
        };
        assert_eq!(seen(12), (2, 1));
        assert_eq!(seen(299), (2, 1));
        assert_eq!(seen(300), (1, 0));
        assert_eq!(seen(309), (1, 0));
        assert_eq!(seen(310), (0, 0));
        // The slice of 5 s serves 305 s too: what it held must be gone, even in another order.
        window.record(at(305), event(false, 10));
        assert_eq!(seen(305), (2, 0));
        window.record(at(5), event(true, 10));
        assert_eq!(seen(305), (2, 0));
    }

    #[test]
    fn quantiles_are_within_five_per_cent() {
        for scale in [1, 7, 113, 9_999, 60_000] {
            let window = Window::new();
            for n in 1..=1000 {
                window.record(at(0), event(false, n * scale));
            }
            let view = window.view(at(0));
            for q in [0.5, 0.95, 0.99] {
                let exact = q * 1000.0 * scale as f64;
                let got = view.quantile(q).unwrap().as_secs_f64() * 1e6;
                assert!((got / exact - 1.0).abs() <= 0.05, "{q}: {got} for {exact}");
            }
        }
    }

    #[test]
    fn extreme_latencies_stay_in_the_outer_buckets() {
        assert_eq!(bucket_of(Duration::ZERO), 0);
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn throughput_is_over_the_time_covered() {
        let window = Window::new();
        for _ in 0..590 {
            window.record(at(395), event(false, 1));
        }
        let check = |now: u64, expected: f64| {
            let got = window.view(at(now)).throughput();
            assert!((got - expected).abs() < 1e-9, "{got} at {now}");
        };
        check(395, 2.0);
        check(405, 2.0);
        let young = Window::new();
        young.record(at(0), event(false, 1));
        assert!((young.view(Duration::from_millis(3)).throughput() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn threads_lose_no_event_when_a_slice_turns() {
        let window = Window::new();
        for round in 0..40 {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..500 {
                            window.record(at(round * 300), event(false, 5));
                        }
                    });
                }
            });
            assert_eq!(window.view(at(round * 300)).count, 2000);
        }
    }
}
