//! Processor time by coordinator, measured when somebody looks.
//!
//! There is no tick: each reading adds what the threads used since the reading before, and keeps a
//! few earlier readings to measure a share against. What a thread used stays with its group when
//! it ends; only its time after the last reading that saw it is lost.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::procfs::{self, Stat};
use crate::sync::Mutex;
use crate::thread;

/// A share is measured over at least this long, once the process is that old.
const SPAN_MIN: Duration = Duration::from_secs(10);
/// Readings closer together than this share one place in the history.
const SPACING: Duration = Duration::from_secs(5);
/// Readings kept: three of 5 s reach back 10 s however often somebody looks.
const READINGS_MAX: usize = 4;

/// One reading of a thread's clock.
#[derive(Clone, Copy, Debug)]
struct ThreadTime {
    tid: u32,
    started_ticks: u64,
    group: &'static str,
    seconds: f64,
}

/// A share of the machine and the time it was measured over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// 100 is every core of the machine.
    pub percent: f64,
    /// How far back it was measured.
    pub span: Duration,
}

/// Cumulated seconds by name, and their recent history.
#[derive(Default)]
struct History {
    readings: VecDeque<(Duration, BTreeMap<&'static str, f64>)>,
}

impl History {
    /// Notes the sums at `now` and returns each one's share since a reading of at least
    /// [`SPAN_MIN`] ago, or since the start.
    fn share(
        &mut self,
        now: Duration,
        sums: &BTreeMap<&'static str, f64>,
        cores: usize,
    ) -> BTreeMap<&'static str, Share> {
        let old = |(at, _): &&(Duration, _)| now.saturating_sub(*at) >= SPAN_MIN;
        let base = self.readings.iter().rev().find(old);
        let (base_at, base_sums) =
            base.map_or((Duration::ZERO, None), |(at, sums)| (*at, Some(sums)));
        let span = now.saturating_sub(base_at);
        let share = |(name, seconds): (&&'static str, &f64)| {
            let before = base_sums.and_then(|sums| sums.get(name)).unwrap_or(&0.0);
            let used = (seconds - before).max(0.0);
            let percent = used / span.as_secs_f64().max(0.001) / cores as f64 * 100.0;
            (*name, Share { percent, span })
        };
        let shares = sums.iter().map(share).collect();
        let is_new = |(at, _): &(Duration, _)| now.saturating_sub(*at) >= SPACING;
        if self.readings.back().is_none_or(is_new) {
            if self.readings.len() == READINGS_MAX {
                self.readings.pop_front();
            }
            self.readings.push_back((now, sums.clone()));
        }
        shares
    }
}

#[derive(Default)]
struct State {
    /// Last seen seconds of each living thread, by id and start.
    threads: HashMap<(u32, u64), f64>,
    sums: BTreeMap<&'static str, f64>,
    history: History,
    /// When the last reading that was added began.
    added_at: Duration,
}

impl State {
    /// Adds what `times`, read from `now` on, shows beyond what was seen before, and forgets the
    /// threads that are gone. A reading that began before one that was added has nothing to add.
    fn add(&mut self, now: Duration, times: &[ThreadTime]) {
        if now < self.added_at {
            return;
        }
        self.added_at = now;
        let mut threads = HashMap::with_capacity(times.len());
        for time in times {
            let key = (time.tid, time.started_ticks);
            let before = self.threads.get(&key).copied().unwrap_or(0.0);
            // Two readings may overlap, so that one begun later read this thread earlier.
            *self.sums.entry(time.group).or_default() += (time.seconds - before).max(0.0);
            threads.insert(key, time.seconds.max(before));
        }
        self.threads = threads;
    }
}

/// The processor time of the groups that `thread.rs` charges.
pub struct GroupCpu(Mutex<State>);

impl Default for GroupCpu {
    fn default() -> Self {
        Self::new()
    }
}

impl GroupCpu {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self(Mutex::new("metrics.cpu", State::default()))
    }

    /// Reads every grouped thread's clock at `now`, the time since the process started, and returns
    /// each group's share. One small file a thread: for scrapes, not for health.
    pub fn read(&self, now: Duration) -> BTreeMap<&'static str, Share> {
        let times: Vec<ThreadTime> = thread::snapshot()
            .into_iter()
            .filter(|row| !row.group.is_empty())
            .filter_map(|row| {
                let stat = Stat::of_thread(row.tid)?;
                Some(ThreadTime {
                    tid: row.tid,
                    started_ticks: stat.started_ticks,
                    group: row.group,
                    seconds: stat.cpu_seconds,
                })
            })
            .collect();
        let mut state = self.0.lock();
        state.add(now, &times);
        let State { sums, history, .. } = &mut *state;
        history.share(now, sums, procfs::cores())
    }
}

/// The processor time of the whole process.
pub struct ProcessCpu(Mutex<History>);

impl Default for ProcessCpu {
    fn default() -> Self {
        Self::new()
    }
}

impl ProcessCpu {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self(Mutex::new("metrics.process_cpu", History::default()))
    }

    /// The share since a reading at least ten seconds ago, given the process' time so far.
    pub fn share(&self, now: Duration, cpu_seconds: f64) -> Share {
        let sums = BTreeMap::from([("", cpu_seconds)]);
        self.0.lock().share(now, &sums, procfs::cores())[""]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(history: &mut History, at: u64, seconds: f64, expected: (f64, u64)) {
        let now = Duration::from_secs(at);
        let share = history.share(now, &BTreeMap::from([("A", seconds)]), 2)["A"];
        assert!((share.percent - expected.0).abs() < 1e-9, "{share:?}");
        assert_eq!(share.span.as_secs(), expected.1);
    }

    #[test]
    fn the_first_share_is_since_start_and_later_ones_are_recent() {
        let mut history = History::default();
        check(&mut history, 4, 4.0, (50.0, 4));
        check(&mut history, 10, 4.0, (20.0, 10));
        check(&mut history, 20, 14.0, (50.0, 10));
        check(&mut history, 400, 14.0, (0.0, 380));
    }

    #[test]
    fn frequent_looks_still_measure_over_ten_seconds() {
        let mut history = History::default();
        for second in 0..=60 {
            let now = Duration::from_secs(second);
            let share = history.share(now, &BTreeMap::from([("A", second as f64)]), 1)["A"];
            let span = share.span.as_secs();
            assert!(
                span == second || (10..20).contains(&span),
                "{span} at {second}"
            );
            assert!(history.readings.len() <= READINGS_MAX);
        }
    }

    #[test]
    fn what_an_ended_thread_used_is_kept_and_a_reused_id_is_another_thread() {
        let time = |tid, started_ticks, seconds| ThreadTime {
            tid,
            started_ticks,
            group: "A",
            seconds,
        };
        let mut state = State::default();
        let mut add = |second, times: &[ThreadTime]| state.add(Duration::from_secs(second), times);
        add(1, &[time(1, 10, 2.0), time(2, 10, 1.0)]);
        add(2, &[time(2, 10, 1.5)]);
        add(3, &[time(1, 99, 0.25), time(2, 10, 1.5)]);
        add(3, &[time(1, 99, 0.25), time(2, 10, 1.25)]);
        add(2, &[time(2, 10, 5.0)]);
        add(4, &[time(1, 99, 0.25)]);
        assert!((state.sums["A"] - 3.75).abs() < 1e-9);
    }

    #[test]
    fn a_working_thread_is_charged_to_its_group_and_still_is_after_its_end() {
        use std::sync::atomic::{AtomicBool, Ordering};
        static END: AtomicBool = AtomicBool::new(false);
        let cpu = GroupCpu::new();
        let worker = thread::Builder::new("cpu-test", thread::Role::Worker)
            .group("CpuTest")
            .spawn(|| {
                while !END.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                Ok(())
            })
            .unwrap();
        let start = std::time::Instant::now();
        let read = |second| {
            cpu.read(Duration::from_secs(second))
                .get("CpuTest")
                .copied()
        };
        while read(1).is_none_or(|share| share.percent <= 0.0) {
            assert!(start.elapsed() < Duration::from_secs(20), "never charged");
        }
        END.store(true, Ordering::Relaxed);
        worker.join();
        assert!(read(2).is_some_and(|share| share.percent > 0.0));
    }
}
