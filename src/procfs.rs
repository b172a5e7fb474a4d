//! What the kernel says about this process and machine, read from `/proc`.
//!
//! Parsing is pure and tested on text; reading is one short file each, a few microseconds, and
//! never done on a call's path. A field that cannot be read is `None`, never a made-up 0. Units
//! are the kernel's own converted once, here: bytes and seconds. Source: proc(5).

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// The fields of `/proc/<pid>/stat` that are used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stat {
    /// User and system time, in seconds. Of the process, its ended threads included; of a thread,
    /// its own.
    pub cpu_seconds: f64,
    /// Threads of the process.
    pub threads: u64,
    /// When it started, in clock ticks since boot. Tells a thread from a later one of its id.
    pub started_ticks: u64,
    /// Virtual memory.
    pub virtual_bytes: u64,
    /// Resident memory.
    pub resident_bytes: u64,
}

impl Stat {
    /// Parses one line of `stat`, whose times are in ticks and whose resident size is in pages.
    /// The second field is a name in brackets that may itself hold spaces and brackets.
    fn parse(text: &str, ticks_per_second: u64, page_bytes: u64) -> Option<Self> {
        let after_name = &text[text.rfind(')')? + 1..];
        let mut fields = after_name.split_ascii_whitespace();
        // Field numbers of proc(5); the first after the name is 3. Skipping is relative to the
        // field read before.
        let mut skip = |n: usize| fields.nth(n)?.parse::<u64>().ok();
        let user = skip(14 - 3)?;
        let system = skip(0)?;
        let threads = skip(20 - 15 - 1)?;
        let started_ticks = skip(22 - 20 - 1)?;
        let virtual_bytes = skip(0)?;
        let resident_pages = skip(0)?;
        Some(Self {
            cpu_seconds: (user + system) as f64 / ticks_per_second as f64,
            threads,
            started_ticks,
            virtual_bytes,
            resident_bytes: resident_pages * page_bytes,
        })
    }

    fn read(path: &str) -> Option<Self> {
        Self::parse(
            &fs::read_to_string(path).ok()?,
            rustix::param::clock_ticks_per_second(),
            rustix::param::page_size() as u64,
        )
    }

    /// Of this process.
    pub fn of_process() -> Option<Self> {
        Self::read("/proc/self/stat")
    }

    /// Of this process' thread `tid`; `None` if it has ended.
    pub fn of_thread(tid: u32) -> Option<Self> {
        Self::read(&format!("/proc/self/task/{tid}/stat"))
    }
}

/// The machine's memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub total_bytes: u64,
    /// What programs could still get without swapping, as the kernel estimates it.
    pub available_bytes: u64,
}

impl Memory {
    fn parse(text: &str) -> Option<Self> {
        let kib = |key: &str| -> Option<u64> {
            let line = text.lines().find(|line| line.starts_with(key))?;
            line.split_ascii_whitespace().nth(1)?.parse().ok()
        };
        Some(Self {
            total_bytes: kib("MemTotal:")? * 1024,
            available_bytes: kib("MemAvailable:")? * 1024,
        })
    }

    /// As the kernel says now.
    pub fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/meminfo").ok()?)
    }
}

/// The memory in bytes that this process may have: the machine's, or less where one of its control
/// groups says so (cgroup v2, `memory.max`; a unit's `MemoryMax` is that).
pub fn memory_max() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = group_memory_max(&groups, |folder| {
        fs::read_to_string(format!("/sys/fs/cgroup{folder}/memory.max")).ok()
    });
    let machine = Memory::read().map(|memory| memory.total_bytes);
    group.into_iter().chain(machine).min()
}

/// The least that the group of `/proc/self/cgroup`, or one that it is in, has as its limit.
fn group_memory_max(groups: &str, limit: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folders = Path::new(group).ancestors().filter_map(Path::to_str);
    folders
        .filter_map(|folder| limit(folder)?.trim().parse().ok())
        .min()
}

/// Descriptors that this process has open. Walks a folder with an entry for each: for scrapes, not
/// for health.
pub fn open_descriptors() -> Option<u64> {
    // The walk itself holds one.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

/// The soft limit of open descriptors; `None` if there is none.
pub fn descriptors_max() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// When this process started, in seconds since 1970. Read once.
pub fn started_unix_seconds() -> Option<f64> {
    static STARTED: OnceLock<Option<f64>> = OnceLock::new();
    *STARTED.get_or_init(|| {
        let text = fs::read_to_string("/proc/stat").ok()?;
        let boot = text.lines().find_map(|line| line.strip_prefix("btime "))?;
        let boot: f64 = boot.trim().parse().ok()?;
        let ticks = Stat::of_process()?.started_ticks;
        Some(boot + ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    })
}

/// Processors of the machine that may be used, at least 1. Read once.
pub fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_group_bounds_the_memory() {
        let groups = "1:cpu:/old\n0::/system.slice/victor.service\n";
        let check = |limits: &[(&str, &str)], expected| {
            let limit = |folder: &str| {
                let own = limits.iter().find(|(own, _)| *own == folder);
                own.map(|(_, limit)| format!("{limit}\n"))
            };
            assert_eq!(group_memory_max(groups, limit), expected, "{limits:?}");
        };
        let unit = "/system.slice/victor.service";
        check(&[], None);
        check(&[(unit, "max"), ("/system.slice", "max")], None);
        check(&[(unit, "6000")], Some(6000));
        check(&[(unit, "6000"), ("/system.slice", "4000")], Some(4000));
        check(&[(unit, "max"), ("/", "5000")], Some(5000));
        assert_eq!(group_memory_max("", |_| Some("1".into())), None);
    }

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 9 0 1234 \
                    4096000 25 18446744073709551615 1 1";
        let expected = Stat {
            cpu_seconds: 3.0,
            threads: 9,
            started_ticks: 1234,
            virtual_bytes: 4_096_000,
            resident_bytes: 102_400,
        };
        assert_eq!(Stat::parse(text, 100, 4096), Some(expected));
        assert_eq!(Stat::parse("42 (cut) S 1", 100, 4096), None);
        assert_eq!(Stat::parse("", 100, 4096), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let text = "MemTotal:  100 kB\nMemFree:  1 kB\nMemAvailable:  40 kB\n";
        let expected = Memory {
            total_bytes: 102_400,
            available_bytes: 40_960,
        };
        assert_eq!(Memory::parse(text), Some(expected));
        assert_eq!(Memory::parse("MemTotal: 100 kB\n"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let stat = Stat::of_process().unwrap();
        assert!(stat.threads >= 1 && stat.resident_bytes > 0);
        assert!(Stat::of_thread(rustix::process::getpid().as_raw_nonzero().get() as u32).is_some());
        assert!(open_descriptors().unwrap() >= 3);
        assert!(started_unix_seconds().unwrap() > 1.5e9);
    }
}
