//! `victor admin`'s side: asks the daemon and waits for its answer.
//!
//! Nothing is decided here; a daemon that does not answer is told apart from one that refuses,
//! since operators and scripts do different things then.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::frame::{self, ANSWER_BYTES_MAX, Fault, REQUEST_BYTES_MAX, Timed};
use super::{AdminError, Code, PROTOCOL, Progress, socket};

/// A daemon that says nothing for so long, not even of progress, is stuck.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);

/// Why there is no result.
#[derive(Debug)]
pub enum Failure {
    /// Nobody listens at any of these.
    NoDaemon(Vec<PathBuf>),
    /// Somebody listens, and gives no answer in time or closes without one.
    NoAnswer(PathBuf, String),
    /// The socket is there and may not be used.
    Denied(PathBuf, io::Error),
    /// The daemon says no.
    Refused(AdminError),
}

/// One of the daemon's frames.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Frame {
    Progress(Progress),
    Ok(Value),
    Error(AdminError),
}

/// Asks the daemon at the first of `places` where one listens.
///
/// # Errors
/// See [`Failure`].
pub fn ask(
    places: &[PathBuf],
    verb: &str,
    args: &Value,
    mut report: impl FnMut(&Progress),
) -> Result<Value, Failure> {
    let request = json!({"v": PROTOCOL, "verb": verb, "args": args});
    let Some(request) = frame::encode(&request, REQUEST_BYTES_MAX) else {
        let why = "the request is over 1 MiB long";
        return Err(Failure::Refused(AdminError::new(Code::TooLong, why)));
    };
    let (path, stream) = connect(places)?;
    let no_answer = |why: String| Failure::NoAnswer(path.to_owned(), why);
    let mut timed = Timed {
        stream: &stream,
        deadline: Instant::now() + ANSWER_WAIT_MAX,
    };
    // A daemon that refuses at the door says why and closes: its word is read all the same.
    let sent = timed.write_all(&request);
    loop {
        timed.deadline = Instant::now() + ANSWER_WAIT_MAX;
        let frame = match frame::read(&mut timed, ANSWER_BYTES_MAX) {
            Ok(frame) => frame,
            Err(Fault::Late) => {
                let why = format!("no answer within {} s", ANSWER_WAIT_MAX.as_secs());
                return Err(no_answer(why));
            }
            Err(Fault::Closed) => {
                let why = sent.err().map(|error| format!(" ({error})"));
                let why = format!("closed without an answer{}", why.unwrap_or_default());
                return Err(no_answer(why));
            }
            Err(Fault::TooLong(_)) => return Err(no_answer("not a victor's answer".to_owned())),
            Err(Fault::Io(error)) => return Err(no_answer(error.to_string())),
        };
        match serde_json::from_slice(&frame) {
            Ok(Frame::Progress(progress)) => report(&progress),
            Ok(Frame::Ok(value)) => return Ok(value),
            Ok(Frame::Error(error)) => return Err(Failure::Refused(error)),
            Err(error) => return Err(no_answer(format!("not a victor's answer: {error}"))),
        }
    }
}

fn connect(places: &[PathBuf]) -> Result<(&Path, std::os::unix::net::UnixStream), Failure> {
    for path in places {
        match socket::connect(path) {
            Ok(stream) => return Ok((path, stream)),
            Err(error) if socket::is_dead(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let why = "it accepts no connection".to_owned();
                return Err(Failure::NoAnswer(path.clone(), why));
            }
            Err(error) => return Err(Failure::Denied(path.clone(), error)),
        }
    }
    Err(Failure::NoDaemon(places.to_vec()))
}
