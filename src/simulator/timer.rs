//! The threads that give answers their delays.
//!
//! Each owns its answers outright: no lock and no allocation a token, one heap of due times, and
//! a bounded channel to wait on until the next of them. With nothing due it does not wake. It
//! never waits for a client: the front takes what is written or says that the client is gone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};

use super::journal::{Ended, Outcome};
use super::script::{End, Script};
use super::server::{Service, head};
use crate::cancel::{Abort, Cancel, Reason};
use crate::front::{Gone, Request, Responder, Response, StreamWriter};
use crate::thread::{self, State};

/// Bytes of events that are written at once where none has a delay.
const BATCH_BYTES: usize = 64 << 10;
/// A stream whose client has more than this unread is not written on for a moment. It is the
/// front that ends a client that reads nothing at all.
const UNREAD_BYTES_HIGH: usize = 1 << 20;
const UNREAD_PAUSE: Duration = Duration::from_millis(5);
/// Messages that are taken before due answers get their turn.
const MESSAGES_IN_A_ROW: usize = 256;

/// What a timer thread is told.
pub(super) enum Message {
    /// Plan the answer to a request that is too large for a front thread.
    Plan(Box<(Request, Responder)>),
    /// Run an answer.
    Run(Box<Job>),
    /// Send the log, with bodies or without.
    Log(Responder, bool),
    /// The client of this answer is gone.
    Gone { slot: u32, generation: u32 },
    /// End, and drop every answer.
    Stop,
}

/// An answer under way.
pub(super) struct Job {
    pub script: Script,
    pub way: Way,
    /// Its entry in the log.
    pub number: u64,
    /// When its next step is due.
    pub due: Instant,
}

/// How far an answer has come.
pub(super) enum Way {
    /// No head was sent.
    Head(Responder),
    /// The head was sent.
    Stream(StreamWriter),
    /// Over.
    Done,
}

/// When a job goes on.
pub(super) enum Next {
    At(Instant),
    /// Never by itself: it is held until its client leaves.
    Hold,
    Done,
}

impl Job {
    fn cancel(&self) -> Option<&Arc<Cancel>> {
        match &self.way {
            Way::Head(responder) => Some(responder.cancel()),
            Way::Stream(writer) => Some(writer.cancel()),
            Way::Done => None,
        }
    }

    fn outcome(&self, ended: Ended) -> Outcome {
        Outcome {
            status: match &self.way {
                Way::Head(_) if ended != Ended::Complete => 0,
                _ => self.script.status,
            },
            ended,
            tokens: self.script.steps.tokens(),
            at: Instant::now(),
        }
    }

    /// Whether the whole answer is little enough work, and without a wait, for a front thread.
    pub fn is_immediate(&self, work_bytes_max: usize) -> bool {
        let script = &self.script;
        script.delay.is_zero()
            && matches!(script.end, End::Complete | End::Cut | End::Reset)
            && script.steps.is_unpaced()
            && script.steps.work_bytes() <= work_bytes_max
    }

    /// Does what is due, with `buffer` to render into.
    pub fn advance(&mut self, service: &Service, buffer: &mut Vec<u8>) -> Next {
        match std::mem::replace(&mut self.way, Way::Done) {
            Way::Head(responder) => self.begin(responder, service, buffer),
            Way::Stream(writer) => self.go_on(writer, service, buffer),
            Way::Done => Next::Done,
        }
    }

    fn begin(&mut self, responder: Responder, service: &Service, buffer: &mut Vec<u8>) -> Next {
        match self.script.end {
            End::Reset => {
                let outcome = Outcome {
                    status: 0,
                    ..self.outcome(Ended::Reset)
                };
                service.journal.close(self.number, outcome);
                responder.abort();
                return Next::Done;
            }
            End::Silent => {
                self.way = Way::Head(responder);
                return Next::Hold;
            }
            _ => {}
        }
        let response = head(&self.script);
        if !self.script.chunked {
            let mut body = Vec::new();
            self.script.steps.render(&mut body);
            service
                .journal
                .close(self.number, self.outcome(Ended::Complete));
            responder.respond(response.body(body));
            return Next::Done;
        }
        let mut writer = responder.stream(response);
        match self.script.steps.delay() {
            Some(delay) if !delay.is_zero() => {
                let sent = writer.flush_head();
                self.way = Way::Stream(writer);
                self.due += delay;
                self.unless_gone(sent, Next::At(self.due), service)
            }
            _ => self.go_on(writer, service, buffer),
        }
    }

    /// Writes the steps that are due now, up to a delay, the end, or a batch.
    fn go_on(&mut self, mut writer: StreamWriter, service: &Service, buffer: &mut Vec<u8>) -> Next {
        if writer.unread_bytes() > UNREAD_BYTES_HIGH {
            self.due = Instant::now() + UNREAD_PAUSE;
            self.way = Way::Stream(writer);
            return Next::At(self.due);
        }
        buffer.clear();
        self.script.steps.render(buffer);
        let delay = loop {
            match self.script.steps.delay() {
                Some(delay) if delay.is_zero() && buffer.len() < BATCH_BYTES => {
                    self.script.steps.render(buffer);
                }
                delay => break delay,
            }
        };
        if delay.is_none() && self.script.end == End::Complete {
            // Entered before its last bytes are sent, so that whoever saw them finds it.
            service
                .journal
                .close(self.number, self.outcome(Ended::Complete));
            let sent = writer.write(buffer).and_then(|()| writer.finish());
            return self.unless_gone(sent, Next::Done, service);
        }
        if delay.is_none() && self.script.end == End::Cut {
            service.journal.close(self.number, self.outcome(Ended::Cut));
        }
        let sent = writer.write(buffer);
        let next = match delay {
            None if self.script.end == End::Stall => Next::Hold,
            None => return self.unless_gone(sent, Next::Done, service),
            Some(Duration::ZERO) => {
                self.due = Instant::now();
                Next::At(self.due)
            }
            Some(delay) => {
                self.due += delay;
                Next::At(self.due)
            }
        };
        self.way = Way::Stream(writer);
        self.unless_gone(sent, next, service)
    }

    fn unless_gone(&mut self, sent: Result<(), Gone>, next: Next, service: &Service) -> Next {
        match sent {
            Ok(()) => next,
            Err(Gone) => {
                self.give_up(service);
                Next::Done
            }
        }
    }

    /// Enters why the answer ended before it was done, and drops it.
    fn give_up(&mut self, service: &Service) {
        let ended = match self.cancel().and_then(|cancel| cancel.reason()) {
            Some(Reason::SlowClient) => Ended::SlowClient,
            Some(Reason::Shutdown) => Ended::Shutdown,
            _ => Ended::ClientGone,
        };
        service.journal.close(self.number, self.outcome(ended));
        self.way = Way::Done;
    }
}

/// Tells a timer thread that a client is gone.
struct Wake {
    timer: Sender<Message>,
    /// Set where the channel was full, which means that the thread is awake and will look.
    missed: Arc<AtomicBool>,
    slot: u32,
    generation: u32,
}

impl Abort for Wake {
    fn abort(&self) {
        let (slot, generation) = (self.slot, self.generation);
        if self
            .timer
            .try_send(Message::Gone { slot, generation })
            .is_err()
        {
            self.missed.store(true, Ordering::Release);
        }
    }
}

#[derive(Default)]
struct Slot {
    generation: u32,
    job: Option<Box<Job>>,
}

/// A timer thread's state. It holds at most one job for each of the front's connections.
pub(super) struct Timer {
    pub service: Arc<Service>,
    messages: Receiver<Message>,
    own: Sender<Message>,
    missed: Arc<AtomicBool>,
    due: BinaryHeap<(Reverse<Instant>, u32, u32)>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    buffer: Vec<u8>,
}

impl Timer {
    pub fn new(service: Arc<Service>, own: Sender<Message>, messages: Receiver<Message>) -> Self {
        Self {
            service,
            messages,
            own,
            missed: Arc::new(AtomicBool::new(false)),
            due: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            buffer: Vec::with_capacity(1024),
        }
    }

    /// Runs answers until it is told to stop.
    pub fn run(mut self) {
        loop {
            thread::set_state(State::Idle);
            let first = match self.due.peek() {
                None => self
                    .messages
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
                Some((Reverse(due), _, _)) if *due > Instant::now() => {
                    self.messages.recv_deadline(*due)
                }
                Some(_) => self.messages.try_recv().map_err(|error| match error {
                    TryRecvError::Empty => RecvTimeoutError::Timeout,
                    TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
                }),
            };
            thread::set_state(State::Running);
            let mut message = match first {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            for _ in 0..MESSAGES_IN_A_ROW {
                match message.take() {
                    None => break,
                    Some(Message::Stop) => return self.stop(),
                    Some(other) => self.take(other),
                }
                message = self.messages.try_recv().ok();
            }
            if let Some(last) = message {
                match last {
                    Message::Stop => return self.stop(),
                    other => self.take(other),
                }
            }
            if self.missed.swap(false, Ordering::AcqRel) {
                self.sweep();
            }
            self.run_due();
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Plan(work) => {
                let (request, responder) = *work;
                if let Some(job) = self.service.plan(request, responder) {
                    self.start(job);
                }
            }
            Message::Run(job) => self.start(job),
            Message::Log(responder, with_bodies) => {
                let (entries, lines) = self.service.journal.dropped();
                let forgotten = self.service.state.forgotten();
                let response = Response::json(200, self.service.journal.render(with_bodies))
                    .header("x-sim-entries-dropped", &entries.to_string())
                    .header("x-sim-lines-dropped", &lines.to_string())
                    .header("x-sim-state-forgotten", &forgotten.to_string());
                responder.respond(response);
            }
            Message::Gone { slot, generation } => self.gone(slot, generation),
            Message::Stop => {}
        }
    }

    /// Runs what is due of a new job, and keeps it if there is more.
    fn start(&mut self, mut job: Box<Job>) {
        let mut next = Next::At(job.due);
        if job.due <= Instant::now() {
            next = job.advance(&self.service, &mut self.buffer);
        }
        if matches!(next, Next::Done) {
            return;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let generation = self.slots[slot as usize].generation;
        if let Next::At(due) = next {
            self.due.push((Reverse(due), slot, generation));
        }
        let wake = Wake {
            timer: self.own.clone(),
            missed: Arc::clone(&self.missed),
            slot,
            generation,
        };
        let cancel = job.cancel().map(Arc::clone);
        self.slots[slot as usize].job = Some(job);
        if let Some(cancel) = cancel {
            cancel.attach(Arc::new(wake));
        }
    }

    fn run_due(&mut self) {
        let now = Instant::now();
        while let Some((Reverse(due), slot, generation)) = self.due.peek().copied() {
            if due > now {
                return;
            }
            self.due.pop();
            let place = &mut self.slots[slot as usize];
            if place.generation != generation {
                continue;
            }
            let Some(job) = &mut place.job else { continue };
            match job.advance(&self.service, &mut self.buffer) {
                Next::At(due) => self.due.push((Reverse(due), slot, generation)),
                Next::Hold => {}
                Next::Done => self.release(slot),
            }
        }
    }

    fn release(&mut self, slot: u32) {
        let place = &mut self.slots[slot as usize];
        place.generation = place.generation.wrapping_add(1);
        place.job = None;
        self.free.push(slot);
    }

    fn gone(&mut self, slot: u32, generation: u32) {
        let place = &mut self.slots[slot as usize];
        if place.generation != generation {
            return;
        }
        if let Some(mut job) = place.job.take() {
            job.give_up(&self.service);
            self.release(slot);
        }
    }

    /// Drops every job whose client is gone.
    fn sweep(&mut self) {
        for slot in 0..self.slots.len() {
            let place = &self.slots[slot];
            let cancel = place.job.as_ref().and_then(|job| job.cancel());
            if cancel.is_some_and(|cancel| cancel.is_cancelled()) {
                self.gone(slot as u32, place.generation);
            }
        }
    }

    fn stop(mut self) {
        for place in &mut self.slots {
            if let Some(mut job) = place.job.take() {
                let outcome = job.outcome(Ended::Shutdown);
                self.service.journal.close(job.number, outcome);
                job.way = Way::Done;
            }
        }
    }
}
