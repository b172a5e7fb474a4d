//! The harness of the black-box tests: the real binary, the real simulator, a client that sees
//! every byte, and waiting on conditions with a deadline.
//!
//! Nothing here may reach into the program: tests know its files, its ports and its exit code,
//! as an operator does. Start reading at [`daemon`].

pub mod admin;
pub mod caller;
pub mod config;
pub mod daemon;
pub mod exposition;
pub mod http;
pub mod machine;
pub mod process;
pub mod scene;
pub mod simulator;
pub mod sse;
pub mod wait;
