//! One call for all instances: who has the claim on a key asks the provider, the others wait for
//! the answer to appear.
//!
//! A claim is a key of its own at the server, which expires by itself should its holder die. Waiting
//! is polling, since a connection that listens would be one for each waiter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;

use super::client::{Answered, Kind};
use super::link::Fault;
use super::resp::{Reply, command};
use super::writer::Job;
use super::{SharedCache, TTL_MAX};
use crate::cancel::{Abort, Cancel};
use crate::metrics::{SharedOperation, SharedOutcome};
use crate::sync::{Condvar, Mutex};
use crate::thread::{self, State};

/// The pauses between two looks at whether the answer is there: the first, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// What became of a claim.
#[derive(Debug)]
pub enum Claim {
    /// It is ours: ask the provider, put the answer, then release.
    Mine(Token),
    /// Another instance has it; see [`SharedCache::wait`].
    Others,
    /// The answer has come in the meantime.
    Found(Vec<u8>),
    /// The server does not answer, or takes no writes: go on without.
    Unavailable,
}

/// A claim that is held. It is given back when this is dropped, whatever became of its holder.
pub struct Token {
    name: Vec<u8>,
    token: Vec<u8>,
    jobs: Sender<Job>,
}

impl Token {
    /// Drops it without giving anything back: the claim was never ours.
    fn forgo(mut self) {
        self.name.clear();
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.name.is_empty() {
            return;
        }
        // Should the queue be full even of releases, the claim expires by itself.
        let _ = self.jobs.try_send(Job::Release {
            name: std::mem::take(&mut self.name),
            token: std::mem::take(&mut self.token),
        });
    }
}

impl SharedCache {
    /// Claims `key` for at most `for_`: among all instances with the same server and prefix one at a
    /// time has the claim. Takes as long as [`SharedCache::get`] at most, and hardly anything after one that the
    /// server did not answer.
    pub fn claim(&self, key: &[u8; 32], for_: Duration) -> Claim {
        let start = Instant::now();
        let client = &self.client;
        let token = Token {
            name: client.name(Kind::Claim, key),
            token: self.unique().into_bytes(),
            jobs: client.jobs.clone(),
        };
        let ms = for_.clamp(Duration::from_millis(1), TTL_MAX).as_millis();
        let mut commands = Vec::new();
        let ms = ms.to_string();
        let set: [&[u8]; 6] = [
            b"SET",
            &token.name,
            &token.token,
            b"NX",
            b"PX",
            ms.as_bytes(),
        ];
        command(&mut commands, &set);
        // Whoever had the claim until now has put its answer before giving it back.
        command(&mut commands, &[b"GET", &client.name(Kind::Answer, key)]);
        let (claim, outcome) = match client.ask(&commands, client.deadline(start)) {
            Ok(Answered { replies, .. }) => self.claimed(token, replies),
            Err(SharedOutcome::Unavailable) => {
                token.forgo();
                (Claim::Unavailable, SharedOutcome::Unavailable)
            }
            // It may have been set all the same: the token is dropped, and with it the claim.
            Err(outcome) => (Claim::Unavailable, outcome),
        };
        client.settle(SharedOperation::Claim, outcome, start);
        claim
    }

    fn claimed(&self, token: Token, [set, value]: [Reply; 2]) -> (Claim, SharedOutcome) {
        let status = &self.client.status;
        if let Reply::Bulk(value) = value {
            if set != Reply::Ok {
                token.forgo();
            }
            return (Claim::Found(value), SharedOutcome::Hit);
        }
        if set == Reply::Ok {
            status.wrote(None);
            return (Claim::Mine(token), SharedOutcome::Ok);
        }
        token.forgo();
        match set {
            Reply::Error(code) => {
                status.wrote(Some(&code));
                (Claim::Unavailable, SharedOutcome::Refused)
            }
            _ => (Claim::Others, SharedOutcome::Taken),
        }
    }

    /// Gives a claim back, behind what was put before. Does not wait for that.
    pub fn release(&self, token: Token) {
        drop(token);
    }

    /// Waits for the answer that another instance has claimed: until it is there, the claim is gone,
    /// the server fails, `until`, or `cancel`; `None` but for the first. A connection is used only
    /// for the looks, none in the pauses between them.
    pub fn wait(&self, key: &[u8; 32], until: Instant, cancel: &Cancel) -> Option<Vec<u8>> {
        let mut commands = Vec::new();
        // In this order: a claim that is gone has left its answer before.
        command(
            &mut commands,
            &[b"EXISTS", &self.client.name(Kind::Claim, key)],
        );
        command(
            &mut commands,
            &[b"GET", &self.client.name(Kind::Answer, key)],
        );
        let mut pause = PAUSE_MIN;
        loop {
            sleep(until.min(Instant::now() + pause), cancel);
            let now = Instant::now();
            if cancel.is_cancelled() || now >= until {
                return None;
            }
            match self.look(&commands, until.min(self.client.deadline(now)), now) {
                Look::Waiting => pause = (pause * 3 / 2).min(PAUSE_MAX),
                Look::Found(value) => return Some(value),
                Look::Gone => return None,
            }
        }
    }

    fn look(&self, commands: &[u8], until: Instant, start: Instant) -> Look {
        let client = &self.client;
        let (look, outcome) = match client.ask(commands, until) {
            Ok(Answered { replies, epoch }) => match replies {
                [_, Reply::Bulk(value)] => (Look::Found(value), SharedOutcome::Hit),
                [Reply::Integer(1), Reply::Nil] => (Look::Waiting, SharedOutcome::Taken),
                [Reply::Error(code), _] | [_, Reply::Error(code)] => {
                    client.failed(epoch, &Fault::Refused(code));
                    (Look::Gone, SharedOutcome::Error)
                }
                _ => (Look::Gone, SharedOutcome::Miss),
            },
            // A moment without a free connection is no reason to ask the provider.
            Err(SharedOutcome::Busy) => (Look::Waiting, SharedOutcome::Busy),
            Err(outcome) => (Look::Gone, outcome),
        };
        client.settle(SharedOperation::Poll, outcome, start);
        look
    }
}

/// What a look at another's claim has shown.
enum Look {
    Waiting,
    Found(Vec<u8>),
    Gone,
}

struct Alarm {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Abort for Alarm {
    fn abort(&self) {
        *self.rung.lock() = true;
        self.bell.notify_one();
    }
}

/// Sleeps until then, or until a cancel.
fn sleep(until: Instant, cancel: &Cancel) {
    let alarm = Arc::new(Alarm {
        rung: Mutex::new("shared_cache.alarm", false),
        bell: Condvar::new(),
    });
    thread::set_state(State::WaitingCache);
    cancel.attach(Arc::clone(&alarm) as Arc<dyn Abort>);
    let mut rung = alarm.rung.lock();
    while !*rung && !alarm.bell.wait_until(&mut rung, until) {}
    drop(rung);
    cancel.detach();
    thread::set_state(State::Running);
}
