//! `kind: simulator`: the simulator without a socket, for a worker that calls it directly.
//!
//! The worker thread itself waits where the script says so, until its deadline or until the call
//! is cancelled. The same core plans the answer as behind `victor simulate`.

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::script::{self, End, Header, Script, SimRequest};
use super::state::State;
use crate::cancel::{Abort, Cancel};
use crate::sync::{Condvar, Mutex};

/// Bytes of events that one read returns at most, about.
const READ_BYTES: usize = 64 << 10;

/// A simulator in this process.
#[derive(Default)]
pub struct InProcess {
    state: State,
}

impl InProcess {
    /// A simulator that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the state of `-once` and `flap`.
    pub fn reset(&self) {
        self.state.reset();
    }

    /// Sends a request and waits for the head of its answer, at most until `deadline`. `cancel`
    /// is kept with the answer: borrowed for one that is read at once, shared for one that is
    /// handed on.
    ///
    /// # Errors
    /// `ConnectionReset` where the script resets, `TimedOut` at the deadline,
    /// `ConnectionAborted` once `cancel` is cancelled.
    pub fn call<C: Deref<Target = Cancel>>(
        &self,
        request: &SimRequest<'_>,
        cancel: C,
        deadline: Instant,
    ) -> io::Result<Answer<C>> {
        let script = script::plan(request, &self.state);
        let due = request.received + script.delay;
        wait(&cancel, due, deadline)?;
        match script.end {
            End::Reset => Err(io::ErrorKind::ConnectionReset.into()),
            // Nothing ever comes, so this waits for the deadline or the cancel.
            End::Silent => Err(wait_for_ever(&cancel, deadline)),
            _ => Ok(Answer {
                script,
                due,
                cancel,
            }),
        }
    }
}

/// An answer whose head has come.
pub struct Answer<C: Deref<Target = Cancel>> {
    script: Script,
    /// When the last step was due.
    due: Instant,
    cancel: C,
}

impl<C: Deref<Target = Cancel>> Answer<C> {
    /// The status.
    pub fn status(&self) -> u16 {
        self.script.status
    }

    /// The headers; names in lower case.
    pub fn headers(&self) -> &[Header] {
        &self.script.headers
    }

    /// Appends what comes next of the body to `buf` and returns how many bytes that were: 0 at
    /// the end. Waits at most until `deadline`. What is due together comes together, so a stream
    /// yields whole events.
    ///
    /// # Errors
    /// `UnexpectedEof` where the script cuts, `TimedOut` at the deadline (the answer can be read
    /// on after it), `ConnectionAborted` once the call is cancelled.
    pub fn read(&mut self, buf: &mut Vec<u8>, deadline: Instant) -> io::Result<usize> {
        let start = buf.len();
        let steps = &mut self.script.steps;
        let Some(delay) = steps.delay() else {
            return match self.script.end {
                End::Complete => Ok(0),
                End::Stall | End::Silent => Err(wait_for_ever(&self.cancel, deadline)),
                End::Cut | End::Reset => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        };
        wait(&self.cancel, self.due + delay, deadline)?;
        self.due += delay;
        steps.render(buf);
        while steps.delay() == Some(Duration::ZERO) && buf.len() - start < READ_BYTES {
            steps.render(buf);
        }
        Ok(buf.len() - start)
    }
}

/// Waits until `due`.
fn wait(cancel: &Cancel, due: Instant, deadline: Instant) -> io::Result<()> {
    if cancel.is_cancelled() {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    if due <= Instant::now() {
        return Ok(());
    }
    let alarm = Arc::new(Alarm {
        rung: Mutex::new("simulator.alarm", false),
        ringing: Condvar::new(),
    });
    cancel.attach(Arc::clone(&alarm) as Arc<dyn Abort>);
    let mut rung = alarm.rung.lock();
    let until = due.min(deadline);
    while !*rung && !alarm.ringing.wait_until(&mut rung, until) {}
    let cancelled = *rung;
    drop(rung);
    cancel.detach();
    match cancelled {
        true => Err(io::ErrorKind::ConnectionAborted.into()),
        false if deadline < due => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(()),
    }
}

/// Waits for what never comes, and says what ended that.
fn wait_for_ever(cancel: &Cancel, deadline: Instant) -> io::Error {
    let timed_out = || io::ErrorKind::TimedOut.into();
    wait(cancel, deadline, deadline)
        .err()
        .unwrap_or_else(timed_out)
}

/// What a waiting worker is woken by.
struct Alarm {
    rung: Mutex<bool>,
    ringing: Condvar,
}

impl Abort for Alarm {
    fn abort(&self) {
        *self.rung.lock() = true;
        self.ringing.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Reason;
    use std::time::SystemTime;

    fn call<'c>(
        model: &str,
        cancel: &'c Cancel,
        patience_ms: u64,
    ) -> io::Result<Answer<&'c Cancel>> {
        let body = format!(
            r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"hi"}}]}}"#
        );
        let now = Instant::now();
        let request = SimRequest {
            method: "POST",
            path: "/v1/chat/completions",
            x_sim: None,
            api_key: None,
            anthropic_version: false,
            body: body.as_bytes(),
            received: now,
            at: SystemTime::UNIX_EPOCH,
        };
        InProcess::new().call(&request, cancel, now + Duration::from_millis(patience_ms))
    }

    fn read_all(
        answer: &mut Answer<&Cancel>,
        patience_ms: u64,
    ) -> (Vec<u8>, usize, Option<io::ErrorKind>) {
        let (mut body, mut reads) = (Vec::new(), 0);
        loop {
            let deadline = Instant::now() + Duration::from_millis(patience_ms);
            match answer.read(&mut body, deadline) {
                Ok(0) => return (body, reads, None),
                Ok(_) => reads += 1,
                Err(error) => return (body, reads, Some(error.kind())),
            }
        }
    }

    #[test]
    fn a_stream_is_read_as_it_is_paced() {
        let cancel = Cancel::new();
        let started = Instant::now();
        let mut answer = call("sim+pace-10x5", &cancel, 5_000).unwrap();
        assert_eq!(answer.status(), 200);
        let (body, reads, error) = read_all(&mut answer, 5_000);
        assert_eq!((reads, error), (5, None));
        assert!(body.ends_with(b"data: [DONE]\n\n"));
        assert!(started.elapsed() >= Duration::from_millis(40));
    }

    #[test]
    fn faults_are_errors_of_reading() {
        use io::ErrorKind::{ConnectionReset, TimedOut, UnexpectedEof};
        let cancel = Cancel::new();
        let head = |model: &str| call(model, &cancel, 20).err().map(|error| error.kind());
        assert_eq!(head("sim+reset"), Some(ConnectionReset));
        assert_eq!(head("sim+silent"), Some(TimedOut));
        assert_eq!(head("sim+latency-500"), Some(TimedOut));
        assert_eq!(head("sim+latency-1"), None);
        let body = |model: &str| read_all(&mut call(model, &cancel, 5_000).unwrap(), 20);
        assert_eq!(body("sim+cut-4").2, Some(UnexpectedEof));
        assert_eq!(body("sim+stall-4").2, Some(TimedOut));
        assert_eq!(body("sim+first-token-500").2, Some(TimedOut));
        assert_eq!(body("sim+no-end").2, None);
    }

    #[test]
    fn a_cancel_ends_a_wait_and_every_later_one() {
        let cancel = Arc::new(Cancel::new());
        let other = Arc::clone(&cancel);
        let canceller =
            crate::thread::spawn("test-cancel", crate::thread::Role::Worker, move || {
                std::thread::sleep(Duration::from_millis(20));
                other.cancel(Reason::ClientGone);
                Ok(())
            });
        let error = call("sim+silent", &cancel, 60_000)
            .err()
            .map(|error| error.kind());
        assert_eq!(error, Some(io::ErrorKind::ConnectionAborted));
        assert!(call("sim", &cancel, 60_000).is_err());
        canceller.unwrap().join();
    }
}
