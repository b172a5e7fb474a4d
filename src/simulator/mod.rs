//! The scripted provider: both dialects, every fault, no network.
//!
//! It answers deterministically and at the pace asked for, so that operators can rehearse outages
//! and tests and benchmarks have a provider that does as it is told. It serves `victor simulate`
//! and, in process, `kind: simulator`. Nothing here must ever depend on chance or on what a model
//! would say.
//!
//! Start at [`script::plan`], the pure core: a request in, a script out. `behaviour` reads the
//! names that choose what goes wrong, `reply` routes and fills in, `steps` makes the bytes piece
//! by piece.

mod anthropic;
pub mod behaviour;
mod body;
mod chat;
mod compose;
mod fault;
mod fields;
mod format;
mod in_process;
mod journal;
mod legacy;
mod logprobs;
mod openai;
mod part;
mod reply;
mod respond;
mod responses;
mod schema;
pub mod script;
mod server;
pub mod state;
pub mod steps;
mod strict;
mod text;
mod timer;
mod tool;
mod vectors;

#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod tests;

pub use in_process::{Answer, InProcess};
pub use script::SimRequest;
pub use server::{Server, serve};
