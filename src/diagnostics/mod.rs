//! Looking into the running process without stopping it.
//!
//! What is here may be asked for when nothing else answers, so it must never wait for a thread
//! that could be stuck. Start reading at [`thread_dump`].

pub mod thread_dump;
