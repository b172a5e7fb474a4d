//! The codec of OpenAI's chat completions: between its JSON and the internal form.
//!
//! Source of every shape: the types of the vendor's SDK, `resources/chat/completions`. Where
//! servers that copy the vendor differ from it, reading takes what they are known to send, and
//! writing gives only what all of them take. `reasoning_content` and `thinking_blocks`, in which
//! several of them carry what a model thought, are read and written although the vendor has
//! neither. Nothing here does I/O, and no input makes it panic.
//!
//! Start at [`read_request`] and [`write_request`], then [`read_answer`] and [`write_answer`] for
//! whole answers, and [`Decoder`] and [`Encoder`] for streams.

mod answer_in;
mod answer_out;
mod choice;
mod content_in;
mod content_out;
mod decoder;
mod encoder;
mod request_in;
mod request_out;
mod said;
mod shape;
mod tools_in;
mod turns_in;
mod turns_out;

pub use answer_in::read_answer;
pub use answer_out::write_answer;
pub use decoder::Decoder;
pub use encoder::Encoder;
pub use request_in::read_request;
pub use request_out::write_request;

#[cfg(test)]
mod tests;
