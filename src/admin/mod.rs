//! The admin plane: a unix socket through which operators ask the running daemon.
//!
//! A connection carries one request and its answers, each a frame: its length in four bytes, the
//! highest first, then JSON. The request is `{"v":1,"verb":"…","args":{…}}`; the answers are any
//! number of `{"progress":{"done","total","message"}}` and at the end `{"ok":…}` or
//! `{"error":{"code","message"}}`. Only the daemon's own user and root are listened to, which the
//! kernel vouches for.
//!
//! What can be asked for is a family of [`Verbs`], a file each: [`general`], [`settings`],
//! [`restart`], [`cache`]. Start reading at [`server::Admin::start`]; `socket.rs` is the way in,
//! `frame.rs` the wire, `client.rs` and `show.rs` are `victor admin`'s side. Nothing here may hold
//! up the other planes: it has threads of its own, and what hangs here hangs alone.

pub mod cache;
pub mod client;
mod frame;
pub mod general;
pub mod restart;
pub mod server;
pub mod settings;
pub mod show;
pub mod socket;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the protocol. A daemon refuses a request of another.
pub const PROTOCOL: u32 = 1;

/// Why a verb was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// No request of this protocol.
    BadRequest,
    /// Another version of the protocol.
    Version,
    /// A frame longer than is taken.
    TooLong,
    /// The peer is neither the daemon's user nor root.
    Forbidden,
    /// As many connections as there may be.
    Busy,
    /// No family has the verb.
    UnknownVerb,
    /// An argument is missing, unknown or impossible.
    BadArguments,
    /// The part that is asked for is off, or the daemon is ending.
    Unavailable,
    /// It was tried and failed.
    Failed,
    /// A fault of ours.
    Internal,
    /// One that a newer daemon knows.
    #[serde(other)]
    Other,
}

/// A verb that was not done: what kind of failure, and a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminError {
    pub code: Code,
    pub message: String,
}

impl AdminError {
    /// With a sentence that says what to do.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AdminError {}

/// How far a long verb has got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub done: u64,
    /// 0 where it is not known.
    pub total: u64,
    pub message: String,
}

/// Takes word of progress; cheap, and never fails: a client that has left does not stop a verb.
pub type Report<'a> = &'a mut dyn FnMut(Progress);

/// A family of verbs.
pub trait Verbs: Send + Sync {
    /// Does what is asked, on a thread of the admin plane's; `None` if the verb is another
    /// family's. A verb that takes longer than ten seconds reports progress at least that often:
    /// that is how its client knows that the daemon lives.
    fn call(
        &self,
        verb: &str,
        args: &Value,
        report: Report<'_>,
    ) -> Option<Result<Value, AdminError>>;
}

/// The arguments of a verb in their type.
fn parse<T: DeserializeOwned>(args: &Value) -> Result<T, AdminError> {
    serde_json::from_value(args.clone())
        .map_err(|error| AdminError::new(Code::BadArguments, format!("the arguments: {error}")))
}

/// The result of a verb. What verbs return is data: there is nothing to fail on.
fn result(result: impl Serialize) -> Result<Value, AdminError> {
    serde_json::to_value(result).map_err(|error| AdminError::new(Code::Internal, error.to_string()))
}

/// Says that nothing is called `name`, and what may have been meant.
fn unknown<'a>(
    what: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> AdminError {
    let near = crate::wire::near::near_matches(name, known.clone());
    let hint = match near.first() {
        Some(near) => format!("did you mean {near}?"),
        None => {
            let names: Vec<&str> = known.into_iter().take(NAMED_MAX).collect();
            match names.is_empty() {
                true => "there is none".to_owned(),
                false => format!("there are {}", names.join(", ")),
            }
        }
    };
    let name: String = name.chars().take(64).collect();
    AdminError::new(
        Code::BadArguments,
        format!("no {what} is called {name:?}: {hint}"),
    )
}

/// Names that an error lists.
const NAMED_MAX: usize = 20;
