//! One metric: a counter, a sum of durations, a gauge or a histogram.
//!
//! Moving one is one or two relaxed atomic additions, whatever the number of threads. What is read
//! back is each value at some moment, not all of them at the same one; a histogram alone is
//! consistent with itself.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Durations are summed in units of 100 ns: in 64 bits that is 58,000 years of summed time, which
/// thousands of concurrent streams do not use up as they would nanoseconds.
const TICKS_PER_SECOND: f64 = 1e7;

fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos() / 100).unwrap_or(u64::MAX)
}

/// What a family is, as `# TYPE` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Counter,
    Gauge,
    Histogram,
}

impl Type {
    /// The word of the exposition format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        // Adding nothing would still take the line of memory from the other cores.
        if n > 0 {
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A sum of durations, shown in seconds.
#[derive(Debug, Default)]
pub struct FloatCounter(AtomicU64);

impl FloatCounter {
    /// Adds `duration`, at a resolution of 100 ns.
    pub fn add(&self, duration: Duration) {
        // See `Counter::add`.
        if !duration.is_zero() {
            self.0.fetch_add(ticks(duration), Ordering::Relaxed);
        }
    }

    /// Adds `amount` of something else than seconds, at a resolution of 1e-7; nothing below 0.
    pub fn add_amount(&self, amount: f64) {
        self.add(Duration::try_from_secs_f64(amount).unwrap_or_default());
    }

    /// The sum, in seconds where it is of times.
    pub fn seconds(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / TICKS_PER_SECOND
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations counted into fixed buckets.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds in seconds, ascending; `+Inf` is implied.
    bounds: &'static [f64],
    /// The same in ticks, so that observing compares whole numbers.
    bounds_ticks: Box<[u64]>,
    /// One a bound, and one for what is above the last.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty histogram with upper bounds in seconds, ascending.
    pub fn new(bounds: &'static [f64]) -> Self {
        debug_assert!(bounds.is_sorted());
        Self {
            bounds,
            bounds_ticks: bounds
                .iter()
                .map(|bound| (bound * TICKS_PER_SECOND) as u64)
                .collect(),
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts `duration`.
    pub fn observe(&self, duration: Duration) {
        let ticks = ticks(duration);
        let index = self.bounds_ticks.partition_point(|bound| *bound < ticks);
        self.buckets[index].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(ticks, Ordering::Relaxed);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .sum()
    }
}

/// Which of a family's lines a sample is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// The only one: a counter or a gauge.
    Whole,
    /// `_bucket`, with its upper bound in seconds (infinite for the last).
    Bucket(f64),
    /// `_sum`
    Sum,
    /// `_count`
    Count,
}

impl Part {
    /// What is appended to the family's name.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::Bucket(_) => "_bucket",
            Self::Sum => "_sum",
            Self::Count => "_count",
        }
    }
}

/// What a family can be made of.
pub trait Metric: Send + Sync + 'static {
    /// What `# TYPE` says.
    const TYPE: Type;
    /// Calls `emit` for each sample.
    fn read(&self, emit: &mut dyn FnMut(Part, f64));
}

impl Metric for Counter {
    const TYPE: Type = Type::Counter;
    fn read(&self, emit: &mut dyn FnMut(Part, f64)) {
        emit(Part::Whole, self.get() as f64);
    }
}

impl Metric for FloatCounter {
    const TYPE: Type = Type::Counter;
    fn read(&self, emit: &mut dyn FnMut(Part, f64)) {
        emit(Part::Whole, self.seconds());
    }
}

impl Metric for Gauge {
    const TYPE: Type = Type::Gauge;
    fn read(&self, emit: &mut dyn FnMut(Part, f64)) {
        emit(Part::Whole, self.get() as f64);
    }
}

impl Metric for Histogram {
    const TYPE: Type = Type::Histogram;
    fn read(&self, emit: &mut dyn FnMut(Part, f64)) {
        // The count is the sum of the buckets as read here, so that it always equals `+Inf`.
        let mut cumulative = 0;
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        for (bound, bucket) in bounds.zip(&self.buckets) {
            cumulative += bucket.load(Ordering::Relaxed);
            emit(Part::Bucket(bound), cumulative as f64);
        }
        let sum = self.sum.load(Ordering::Relaxed) as f64 / TICKS_PER_SECOND;
        emit(Part::Sum, sum);
        emit(Part::Count, cumulative as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_and_including_each_bound() {
        let histogram = Histogram::new(&[0.5, 1.0]);
        for ms in [100, 500, 501, 5000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let mut read = Vec::new();
        histogram.read(&mut |part, value| read.push((part, value)));
        assert_eq!(
            read,
            [
                (Part::Bucket(0.5), 2.0),
                (Part::Bucket(1.0), 3.0),
                (Part::Bucket(f64::INFINITY), 4.0),
                (Part::Sum, 6.101),
                (Part::Count, 4.0),
            ]
        );
    }
}
