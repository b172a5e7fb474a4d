//! Work of more than one transaction, done a step at a time, and what is done when there is none.
//!
//! Between two steps whatever is queued has its turn, and between two batches of that one step is
//! done: neither waits for more than one transaction of the other.

use std::collections::VecDeque;
use std::time::Instant;

use super::Engine;
use crate::store::file::File;
use crate::store::job::Job;
use crate::store::snapshot::Task;
use crate::store::{StoreError, file};

/// Tasks that may wait: one save, and clears. Whoever clears waits for it, so there are few.
const TASKS_MAX: usize = 16;

impl Engine {
    /// Takes the tasks out of what was queued, and gives the rest. A task is for the list of cached
    /// answers as it is now, so a save from before it is given up.
    pub(super) fn admit(&mut self, jobs: Vec<Job>) -> VecDeque<Job> {
        let mut rest = VecDeque::with_capacity(jobs.len());
        for job in jobs {
            let Job::Task(task) = job else {
                rest.push_back(job);
                continue;
            };
            let is_save = |task: &Task| matches!(task, Task::Save(..));
            let former = self.tasks.iter().position(|task| is_save(task));
            if let Some(index) = former
                && let Some(former) = self.tasks.remove(index)
            {
                former.end(StoreError::Superseded);
            }
            if self.tasks.len() < TASKS_MAX {
                self.tasks.push_back(task);
            } else {
                task.drop_with(StoreError::QueueFull, &self.status);
            }
        }
        rest
    }

    /// Does a step of the oldest task.
    pub(super) fn work(&mut self) {
        let Some(mut task) = self.tasks.pop_front() else {
            return;
        };
        let result = self.guarded(|engine| {
            if !engine.is_open() {
                return Err(StoreError::Unavailable);
            }
            let (started, now) = (Instant::now(), (engine.options.clock)());
            let result = engine.in_transaction(|engine, connection| {
                task.step(connection, &mut engine.cache_totals, now)
            });
            match result {
                Ok((is_done, wrote)) => {
                    engine.status.worked(started.elapsed(), wrote);
                    Ok(is_done)
                }
                Err(error) => {
                    if file::is_damage(&error) {
                        engine.damaged(&error);
                    } else {
                        engine.status.failed(&error.to_string());
                        engine.leave_after(&error);
                    }
                    Err(StoreError::Failed)
                }
            }
        });
        match result.unwrap_or(Err(StoreError::Failed)) {
            Ok(false) => self.tasks.push_front(task),
            Ok(true) => {
                // Space may have become free.
                self.more = true;
                task.succeed(&self.status);
            }
            Err(error) => task.fail(error, &self.status),
        }
    }

    /// Removes some of what has expired, and gives back some of the space that the file has too
    /// much of; whether there is more of either is noted.
    pub(super) fn purge(&mut self) {
        if self.file.is_none() || !self.is_open() {
            return;
        }
        let started = Instant::now();
        let result = self.in_transaction(|_, _| Ok(()));
        let result = result.and_then(|((), wrote)| {
            let file = self.file.as_ref();
            self.more |= file.map_or(Ok(false), File::shrink)?;
            Ok(wrote)
        });
        match result {
            Ok(wrote) => self.status.worked(started.elapsed(), wrote),
            Err(error) if file::is_damage(&error) => self.damaged(&error),
            Err(error) => self.status.failed(&error.to_string()),
        }
    }

    /// Gives up what is not done.
    pub(super) fn abandon(&mut self) {
        for task in self.tasks.drain(..) {
            task.drop_with(StoreError::Closed, &self.status);
        }
    }
}
