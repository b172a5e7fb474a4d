//! The codec of OpenAI's responses, for callers only: no provider is spoken to in it.
//!
//! A caller that speaks responses is joined to a provider of chat completions or of messages
//! through the [`form`](super::form), as any other. What is different is the past: the vendor
//! keeps responses, and a request names the one that it goes on from. Nothing is kept here, where
//! all is pure; this says what to keep ([`input_items`], [`Encoder::response`]) and takes it back
//! as `past` ([`output_items`], [`read_request`]).
//!
//! Source: the types of the vendor's SDKs (`openai` for Node.js, `resources/responses`) and
//! platform.openai.com/docs/api-reference/responses. A response that the vendor itself has written
//! is only ever looked at ([`observe()`]).
//!
//! Start at [`read_request`], whose conversation is in `items` and `content`; then
//! [`write_answer`] for the response object, and [`Encoder`] for the same in events.

mod answer;
mod asked;
mod content;
mod encoder;
mod events;
mod fields;
mod items;
mod object;
mod observe;
mod open;
mod output;
mod request;
#[cfg(test)]
mod tests;
mod tools;

pub use answer::write_answer;
pub use asked::{Asked, read_asked};
pub use encoder::Encoder;
pub use items::{input_items, referenced_items};
pub use observe::{Seen, observe};
pub use output::{output_items, response_of};
pub use request::read_request;
