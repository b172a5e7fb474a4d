//! Black-box tests: the real binary, a real simulator, real clients.
//!
//! One module, one subject. A test that measures time or fills the machine takes
//! `machine::heavy()` and runs alone; every other takes `machine::light()`. Numbers that the
//! project promises are asserted ten times as wide here: speed is for benchmarks to show.

#[path = "../common/mod.rs"]
mod common;

mod abort;
mod adaptive;
mod admin;
mod admin_socket;
mod auth;
mod batching;
mod batching_faults;
mod bodies;
mod cache;
mod chat;
mod coalesce;
mod config;
mod demo;
mod drain;
mod front;
mod health;
mod hedging;
mod hostile;
mod idle;
mod keep_alive;
mod keys;
mod limits;
mod limits_upstream;
mod logs;
mod metrics;
mod overload;
mod passthrough;
mod sdk;
mod shared;
mod signals;
mod smuggling;
mod store;
mod stream_timing;
mod survive;
mod survive_alone;
mod survive_outage;
mod survive_seen;
mod survive_stream;
mod tidy;
mod translate;
mod warm;
