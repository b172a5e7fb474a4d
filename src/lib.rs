//! victor stands between an organisation's programs and the LLM providers.
//!
//! Start reading at [`orchestrator`], which puts the parts together, then follow a call:
//! [`front`] reads it, [`api`] routes it, [`coordinator`] runs it on a worker, [`provider`]
//! asks the vendor. `ARCHITECTURE.md` has the map and the invariants.

pub mod admin;
pub mod api;
pub mod cache;
pub mod cancel;
pub mod cli;
pub mod clock;
pub mod compute;
pub mod config;
pub mod coordinator;
pub mod decimal;
pub mod diagnostics;
pub mod front;
pub mod health;
pub mod log;
pub mod metrics;
pub mod ops;
pub mod orchestrator;
pub mod procfs;
pub mod provider;
pub mod rlimit;
pub mod signals;
pub mod simulator;
pub mod store;
pub mod swar;
pub mod sync;
pub mod systemd;
pub mod thread;
pub mod wire;
