//! Process-wide values read at scrape time: `process_*`, and where the resident memory is.
//!
//! The areas of memory are carved out of the resident size one after another, none below zero, so
//! that with what is accounted to the coordinators they add up to it exactly.

use crate::procfs::{self, Stat};

use super::registry::Collector;

/// The standard `process_*` families of Prometheus' client libraries.
pub fn collect_process(collector: &mut Collector, stat: &Stat) {
    collector.counter(
        "process_cpu_seconds_total",
        "Processor time of the process, user and system.",
        &[],
        stat.cpu_seconds,
    );
    let mut gauge = |name, help, value: Option<f64>| {
        if let Some(value) = value {
            collector.gauge(name, help, &[], value);
        }
    };
    let count = |value: Option<u64>| value.map(|value| value as f64);
    gauge(
        "process_resident_memory_bytes",
        "Resident memory.",
        count(Some(stat.resident_bytes)),
    );
    gauge(
        "process_virtual_memory_bytes",
        "Virtual memory.",
        count(Some(stat.virtual_bytes)),
    );
    gauge(
        "process_threads",
        "Threads of the process.",
        count(Some(stat.threads)),
    );
    gauge(
        "process_open_fds",
        "Open file descriptors.",
        count(procfs::open_descriptors()),
    );
    gauge(
        "process_max_fds",
        "Soft limit of open file descriptors.",
        count(procfs::descriptors_max()),
    );
    gauge(
        "process_start_time_seconds",
        "When the process started, in seconds since 1970.",
        procfs::started_unix_seconds(),
    );
}

/// What the allocator says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// What the program asked for and has not freed.
    pub allocated_bytes: u64,
    /// The pages it takes, freed ones that are not handed back yet included.
    pub resident_bytes: u64,
}

impl Heap {
    /// Asks jemalloc, some ten microseconds. Zeros where the program runs on another allocator, as
    /// the unit tests do.
    pub fn read() -> Self {
        use tikv_jemalloc_ctl::{epoch, stats};
        let read = || {
            // The statistics stand still until the epoch moves.
            epoch::advance()?;
            Ok::<_, tikv_jemalloc_ctl::Error>(Self {
                allocated_bytes: stats::allocated::read()? as u64,
                resident_bytes: stats::resident::read()? as u64,
            })
        };
        read().unwrap_or_default()
    }
}

/// Splits `resident_bytes` into areas beside `coordinators_bytes`. `accounted` are parts of the
/// heap that somebody keeps count of, such as the connections' buffers.
pub fn areas(
    resident_bytes: u64,
    coordinators_bytes: u64,
    heap: Heap,
    accounted: &[(&'static str, u64)],
) -> Vec<(&'static str, u64)> {
    let mut left = resident_bytes.saturating_sub(coordinators_bytes);
    let mut take = |bytes: u64| {
        let taken = bytes.min(left);
        left -= taken;
        taken
    };
    let mut areas: Vec<_> = accounted
        .iter()
        .map(|(area, bytes)| (*area, take(*bytes)))
        .collect();
    let known = coordinators_bytes + accounted.iter().map(|(_, bytes)| bytes).sum::<u64>();
    areas.push(("heap", take(heap.allocated_bytes.saturating_sub(known))));
    let overhead = heap.resident_bytes.saturating_sub(heap.allocated_bytes);
    areas.push(("allocator", take(overhead)));
    areas.push(("code_and_stacks", left));
    areas
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(resident: u64, coordinators: u64, heap: (u64, u64), expected: [u64; 4]) {
        let heap = Heap {
            allocated_bytes: heap.0,
            resident_bytes: heap.1,
        };
        let got = areas(resident, coordinators, heap, &[("connections", 10)]);
        let names: Vec<_> = got.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            ["connections", "heap", "allocator", "code_and_stacks"]
        );
        let sizes: Vec<_> = got.iter().map(|(_, bytes)| *bytes).collect();
        assert_eq!(sizes, expected);
        assert_eq!(sizes.iter().sum::<u64>() + coordinators, resident);
    }

    #[test]
    fn the_areas_and_the_coordinators_add_up_to_the_resident_size() {
        check(100, 20, (50, 70), [10, 20, 20, 30]);
        check(100, 0, (0, 0), [10, 0, 0, 90]);
        // More is accounted than the allocator says, or than is resident at all.
        check(100, 60, (50, 70), [10, 0, 20, 10]);
        check(60, 20, (500, 700), [10, 30, 0, 0]);
    }
}
