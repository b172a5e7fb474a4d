//! The codec of Anthropic's messages, `POST /v1/messages`.
//!
//! Source: the types of Anthropic's TypeScript SDK, `resources/messages/messages.ts`, and the API
//! reference at docs.claude.com/en/api/messages. It reads and writes the internal
//! [form](super::form) and knows no other dialect. It is pure, and goes as deep into a body as the
//! vendor's types do and no deeper.
//!
//! Either direction of a call uses one half: for a caller who speaks this dialect [`read_request()`],
//! [`write_answer`] and [`Encoder`], for a provider who does [`write_request()`], [`read_answer`] and
//! [`Decoder`]. Start at [`read_request()`]; what all of them share is in `block`.

mod answer;
mod block;
mod decoder;
mod encoder;
mod read_content;
mod read_request;
#[cfg(test)]
mod tests;
mod write_content;
mod write_part;
mod write_request;

pub use answer::{read_answer, write_answer};
pub use decoder::Decoder;
pub use encoder::Encoder;
pub use read_request::read_request;
pub use write_request::write_request;
