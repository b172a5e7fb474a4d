//! Signals, turned into channel messages by one named thread.
//!
//! The handlers themselves only note the signal (signal-hook writes a byte into a pipe); what
//! is to be done happens on ordinary threads. A second TERM or INT ends the process from here,
//! however stuck the rest of it is: it must never depend on another thread, except for a moment.

use std::io;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, Sender};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::thread::{self, Role, State};

/// Signals that may wait to be looked at. Beyond it repetitions are dropped: what they ask for
/// is about to be done anyway.
const QUEUE_SIGNALS: usize = 16;
/// How long the last words may take before the process ends without them.
const LAST_WORDS_WAIT_MAX: Duration = Duration::from_millis(500);

/// What came from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: drain and end.
    Terminate,
    /// SIGINT: the same, from a keyboard.
    Interrupt,
    /// SIGHUP: reopen the log, reload the configuration.
    Hangup,
    /// SIGUSR1: dump the threads.
    User1,
    /// SIGUSR2: free.
    User2,
}

impl Signal {
    const ALL: [Self; 5] = [
        Self::Terminate,
        Self::Interrupt,
        Self::Hangup,
        Self::User1,
        Self::User2,
    ];

    /// The system's number for it.
    pub const fn number(self) -> i32 {
        match self {
            Self::Terminate => SIGTERM,
            Self::Interrupt => SIGINT,
            Self::Hangup => SIGHUP,
            Self::User1 => SIGUSR1,
            Self::User2 => SIGUSR2,
        }
    }

    /// Its name, as `kill` takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
            Self::Hangup => "HUP",
            Self::User1 => "USR1",
            Self::User2 => "USR2",
        }
    }

    /// Whether it asks the process to end.
    pub const fn ends(self) -> bool {
        matches!(self, Self::Terminate | Self::Interrupt)
    }

    /// The exit code of a process that a second signal ended: 128 and the signal's number, 143
    /// for TERM and 130 for INT, as a shell reports it.
    pub const fn exit_code(self) -> i32 {
        128 + self.number()
    }

    fn of(number: i32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|signal| signal.number() == number)
    }
}

/// Catches the signals from now on and starts the thread that passes them on.
///
/// The first TERM or INT is a message like the others. The second ends the process at once with
/// [`Signal::exit_code`]: `last_words` runs before, on a thread of its own and for at most half
/// a second (to flush the log, say).
///
/// # Errors
/// The handlers or the thread cannot be had.
pub fn install(last_words: impl FnOnce(Signal) + Send + 'static) -> io::Result<Receiver<Signal>> {
    let mut signals = Signals::new(Signal::ALL.map(Signal::number))?;
    let (sender, receiver) = channel::bounded(QUEUE_SIGNALS);
    thread::spawn("signals", Role::Signals, move || {
        let mut last_words = Some(last_words);
        let mut dispatch = Dispatch::new(sender);
        for signal in signals.forever().filter_map(Signal::of) {
            thread::set_state(State::Running);
            if dispatch.take(signal) == Verdict::EndNow {
                end_now(signal, last_words.take());
            }
            thread::set_state(State::Idle);
        }
        Ok(())
    })?;
    Ok(receiver)
}

/// What is to be done with a signal here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It was passed on, or dropped as a repetition.
    Passed,
    /// The process was asked to end before, and is asked again.
    EndNow,
}

/// Passes signals on and remembers that an end was asked for.
struct Dispatch {
    queue: Sender<Signal>,
    ending: bool,
}

impl Dispatch {
    fn new(queue: Sender<Signal>) -> Self {
        Self {
            queue,
            ending: false,
        }
    }

    fn take(&mut self, signal: Signal) -> Verdict {
        if signal.ends() && std::mem::replace(&mut self.ending, true) {
            return Verdict::EndNow;
        }
        // The last place is kept for the one signal that must not be lost. Nobody listens any
        // more only once the process ends.
        if signal.ends() || self.queue.len() + 1 < QUEUE_SIGNALS {
            let _ = self.queue.try_send(signal);
        }
        Verdict::Passed
    }
}

/// Ends the process without running what others registered for its end: it could be stuck too.
fn end_now(signal: Signal, last_words: Option<impl FnOnce(Signal) + Send + 'static>) -> ! {
    if let Some(last_words) = last_words {
        let (done, is_done) = channel::bounded::<()>(0);
        let started = thread::spawn("last-words", Role::Signals, move || {
            last_words(signal);
            drop(done);
            Ok(())
        });
        if started.is_ok() {
            // Ends by the sender being dropped, or by time.
            let _ = is_done.recv_timeout(LAST_WORDS_WAIT_MAX);
        }
    }
    signal_hook::low_level::exit(signal.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_end_is_passed_on_and_the_second_ends() {
        let (queue, signals) = channel::bounded(QUEUE_SIGNALS);
        let mut dispatch = Dispatch::new(queue);
        let mut check = |signal, expected| assert_eq!(dispatch.take(signal), expected);
        check(Signal::Hangup, Verdict::Passed);
        check(Signal::Terminate, Verdict::Passed);
        check(Signal::User1, Verdict::Passed);
        check(Signal::Interrupt, Verdict::EndNow);
        let got: Vec<Signal> = signals.try_iter().collect();
        assert_eq!(got, [Signal::Hangup, Signal::Terminate, Signal::User1]);
    }

    #[test]
    fn a_flood_of_others_leaves_room_for_the_end() {
        let (queue, signals) = channel::bounded(QUEUE_SIGNALS);
        let mut dispatch = Dispatch::new(queue);
        for _ in 0..100 {
            dispatch.take(Signal::Hangup);
        }
        dispatch.take(Signal::Terminate);
        assert_eq!(signals.try_iter().last(), Some(Signal::Terminate));
        assert_eq!(signals.len(), 0);
    }

    #[test]
    fn usr1_becomes_a_message_and_the_process_lives() {
        let signals = install(|_| ()).unwrap();
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::USR1).unwrap();
        let got = signals.recv_timeout(Duration::from_secs(10));
        assert_eq!(got, Ok(Signal::User1));
    }
}
