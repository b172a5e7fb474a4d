//! The thread that writes to the shared cache, gives claims back, looks the name up, and finds out
//! whether a server that failed is there again. Nobody waits for it.
//!
//! It has a connection of its own and works through one queue in order, so that an answer is there
//! before the claim on it is gone.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, Sender};
use crossbeam::select;

use super::client::{Client, Kind, outcome};
use super::link::{Fault, Link};
use super::resp::{Reply, command};
use super::standing::Admit;
use crate::metrics::{SharedOperation, SharedOutcome};
use crate::thread::{self, State};

/// What one write may take, connecting included: it holds up no call.
const WRITE_TIME: Duration = Duration::from_secs(1);
/// What is still in the queue at the end is written for so long.
const FLUSH_TIME: Duration = Duration::from_secs(1);
/// How far apart a server that is down is looked after while nobody calls.
const LOOK_AFTER: Duration = Duration::from_secs(10);

/// Deletes a claim if it is ours: it may have expired and be somebody else's by now.
const RELEASE: &[u8] = b"if redis.call('get',KEYS[1])==ARGV[1] then \
                         return redis.call('del',KEYS[1]) end return 0";

/// What the thread is to do.
pub(super) enum Job {
    /// Send a whole command that writes an answer.
    Write(Vec<u8>),
    /// Give a claim back.
    Release { name: Vec<u8>, token: Vec<u8> },
    /// Find out whether the server answers.
    Probe,
}

pub(super) struct Writer {
    client: Arc<Client>,
    link: Option<Link>,
}

impl Writer {
    pub const fn new(client: Arc<Client>) -> Self {
        Self { client, link: None }
    }

    /// Works until `stop` is disconnected, then says so by dropping `done`.
    pub fn run(
        mut self,
        jobs: &Receiver<Job>,
        stop: &Receiver<Infallible>,
        done: Sender<Infallible>,
    ) {
        self.probe();
        loop {
            thread::set_state(State::Idle);
            // A server that is down is looked after though nobody calls, so that health tells of it.
            let look = match self.client.status.is_down() {
                true => channel::after(LOOK_AFTER),
                false => channel::never(),
            };
            let job = select! {
                recv(look) -> _ => Some(Job::Probe),
                recv(jobs) -> job => job.ok(),
                recv(stop) -> _ => None,
            };
            thread::set_state(State::WaitingCache);
            match job {
                Some(job) => self.work(job),
                None => break,
            }
        }
        let until = Instant::now() + FLUSH_TIME;
        while Instant::now() < until
            && let Ok(job) = jobs.try_recv()
        {
            if !matches!(job, Job::Probe) {
                self.work(job);
            }
        }
        drop(done);
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Probe => self.probe(),
            Job::Write(bytes) => {
                self.write(SharedOperation::Put, &bytes);
                self.client.unreserve(bytes.len());
            }
            Job::Release { name, token } => {
                let mut commands = Vec::new();
                command(&mut commands, &[b"EVAL", RELEASE, b"1", &name, &token]);
                self.write(SharedOperation::Release, &commands);
            }
        }
    }

    fn write(&mut self, operation: SharedOperation, commands: &[u8]) {
        let start = Instant::now();
        let outcome = match self.client.status.admit(start) {
            Admit::Yes(epoch) => {
                let reply = self.exchange(commands, start + WRITE_TIME);
                self.written(operation, epoch, reply)
            }
            Admit::No => SharedOutcome::Unavailable,
            Admit::ProbeDue => {
                self.probe();
                SharedOutcome::Unavailable
            }
        };
        self.client.settle(operation, outcome, start);
    }

    fn written(
        &mut self,
        operation: SharedOperation,
        epoch: u64,
        reply: Result<Reply, Fault>,
    ) -> SharedOutcome {
        let client = &self.client;
        match reply {
            Ok(Reply::Error(code)) => {
                // It answers, so it can still be read from. That it runs no scripts is no matter.
                if operation == SharedOperation::Put {
                    client.status.wrote(Some(&code));
                }
                if code == "READONLY" {
                    // Once the primary, it may be a replica now, and the name another server's.
                    self.link = None;
                    client.move_on();
                }
                SharedOutcome::Refused
            }
            Ok(_) => {
                if operation == SharedOperation::Put {
                    client.status.wrote(None);
                }
                SharedOutcome::Ok
            }
            Err(fault) => {
                client.failed(epoch, &fault);
                outcome(&fault)
            }
        }
    }

    fn probe(&mut self) {
        let start = Instant::now();
        let result = self.ask_for_nothing();
        let outcome = result.as_ref().map_or_else(outcome, |()| SharedOutcome::Ok);
        self.client.settle(SharedOperation::Probe, outcome, start);
        self.client.status.probed(result.as_ref().copied());
    }

    /// A question of the kind that calls ask, about a key that nobody writes. Connecting may take
    /// longer than a call would give it, the answer may not.
    fn ask_for_nothing(&mut self) -> Result<(), Fault> {
        self.client.resolve()?;
        let link = match self.link.take().filter(Link::is_fresh) {
            Some(link) => link,
            None => self.client.connect(Instant::now() + WRITE_TIME)?,
        };
        self.link = Some(link);
        let name = self.client.name(Kind::Probe, &[0; 32]);
        let mut commands = Vec::new();
        command(&mut commands, &[b"EXISTS", &name]);
        match self.exchange(&commands, self.client.deadline(Instant::now()))? {
            Reply::Error(code) => Err(Fault::Refused(code)),
            _ => Ok(()),
        }
    }

    fn exchange(&mut self, commands: &[u8], until: Instant) -> Result<Reply, Fault> {
        let mut link = match self.link.take().filter(Link::is_fresh) {
            Some(link) => link,
            None => self.client.connect(until)?,
        };
        let [reply] = link.exchange(commands, until)?;
        self.link = Some(link);
        Ok(reply)
    }
}
