//! The `victor` program: hands over to [`victor::cli::run`] and returns its exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    victor::cli::run()
}
