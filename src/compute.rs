//! Threads for work that keeps processors busy, shared out by rayon.
//!
//! A worker that has much to compute for many callers at once has it done here, on all processors,
//! and waits for it. Nothing that runs here may block: there are no more of these threads than
//! processors. What is small is done by whoever asks, since handing it over costs more than it
//! saves. Start at [`Compute::map`].

use std::io;
use std::sync::Arc;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::sync::Mutex;
use crate::thread::{self, Builder, Handle, Role, State};

/// What concerns fewer bytes is not handed over. That costs some 60 µs, and to make the parts of so
/// many bytes of vectors takes 0.8 ms: little is lost where no other processor is free.
const SHARED_BYTES_MIN: usize = 512 << 10;

/// The threads, named `cpu-N`; or none, and then everything is done by whoever asks.
pub struct Compute {
    pool: Mutex<Option<Arc<ThreadPool>>>,
    threads: Mutex<Vec<Handle>>,
}

impl Compute {
    /// No threads.
    pub const fn none() -> Self {
        Self {
            pool: Mutex::new("compute.pool", None),
            threads: Mutex::new("compute.threads", Vec::new()),
        }
    }

    /// Starts that many threads; none for fewer than two, which would not be faster.
    ///
    /// # Errors
    /// The threads cannot be had.
    pub fn start(threads: usize) -> io::Result<Self> {
        if threads < 2 {
            return Ok(Self::none());
        }
        let mut handles = Vec::new();
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .spawn_handler(|thread| {
                let name = format!("cpu-{}", thread.index());
                handles.push(Builder::new(name, Role::Compute).spawn(|| {
                    thread::set_state(State::Idle);
                    thread.run();
                    Ok(())
                })?);
                Ok(())
            })
            .build()
            .map_err(io::Error::other)?;
        Ok(Self {
            pool: Mutex::new("compute.pool", Some(Arc::new(pool))),
            threads: Mutex::new("compute.threads", handles),
        })
    }

    /// What `work` makes of each number below `count`, in order. `bytes`: about how many it looks
    /// at in all. A panic of `work` is one of the caller's.
    pub fn map<T: Send>(
        &self,
        count: usize,
        bytes: usize,
        work: impl Fn(usize) -> T + Send + Sync,
    ) -> Vec<T> {
        let pool = match count > 1 && bytes >= SHARED_BYTES_MIN {
            true => self.pool.lock().clone(),
            false => None,
        };
        let Some(pool) = pool else {
            return (0..count).map(work).collect();
        };
        let watched = |index| {
            thread::set_state(State::Running);
            let made = work(index);
            thread::set_state(State::Idle);
            made
        };
        pool.install(|| (0..count).into_par_iter().map(watched).collect())
    }

    /// Ends the threads once nobody waits for them. What comes later is done by whoever asks.
    pub fn shutdown(&self) {
        drop(self.pool.lock().take());
        let threads = std::mem::take(&mut *self.threads.lock());
        threads.into_iter().for_each(Handle::join);
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        self.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The threads that made each of a hundred.
    fn makers(compute: &Compute, bytes: usize) -> BTreeSet<String> {
        let made = compute.map(100, bytes, |index| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            let name = std::thread::current().name().map(str::to_owned);
            (index, name.unwrap_or_default())
        });
        assert!(made.iter().map(|(index, _)| *index).eq(0..100));
        made.into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn what_is_large_is_shared_out_and_what_is_small_is_not() {
        let here = || std::thread::current().name().unwrap_or_default().to_owned();
        let compute = Compute::start(3).unwrap();
        let shared = makers(&compute, SHARED_BYTES_MIN);
        assert!(shared.len() > 1, "{shared:?}");
        assert!(shared.iter().all(|name| name.starts_with("cpu-")));
        assert!(makers(&compute, SHARED_BYTES_MIN - 1).iter().eq([&here()]));
        compute.shutdown();
        assert!(makers(&compute, SHARED_BYTES_MIN).iter().eq([&here()]));
        let none = Compute::start(1).unwrap();
        assert!(makers(&none, SHARED_BYTES_MIN).iter().eq([&here()]));
    }

    #[test]
    fn a_panic_comes_back_and_the_threads_go_on() {
        let compute = Compute::start(2).unwrap();
        let fails = std::panic::AssertUnwindSafe(|| {
            compute.map(10, SHARED_BYTES_MIN, |index| assert_ne!(index, 7))
        });
        assert!(std::panic::catch_unwind(fails).is_err());
        assert_eq!(makers(&compute, SHARED_BYTES_MIN).len(), 2);
    }
}
