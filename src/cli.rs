//! The command line: flags in, exit code out.
//!
//! Nothing is decided here beyond which part of the program runs. Exit codes are a contract:
//! 0 done, 1 failed, 2 usage, an invalid configuration or an address that is taken, 3 no daemon
//! answers `victor admin`; a second TERM or INT ends with 128 and the signal's number.

mod admin;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::signals::{self, Signal};
use crate::thread::{self, Role};
use crate::{config, diagnostics, front, log, orchestrator, simulator};

/// Exit code of a failure while running.
const FAILED: u8 = 1;
/// Exit code of what the operator can mend before anything runs.
const USAGE: u8 = 2;
/// Exit code of `victor admin` where no daemon answers.
const NO_DAEMON: u8 = 3;

/// The daemon between your programs and the LLM providers.
#[derive(Parser)]
#[command(name = "victor", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve calls.
    Serve {
        /// The configuration. Without it: $VICTOR_CONFIG, ./config/victor.yml,
        /// /etc/victor/victor.yml.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Serve the built-in simulator, without any configuration or provider.
        #[arg(long)]
        demo: bool,
    },
    /// Ask the running daemon, or tell it what to do.
    Admin(admin::Arguments),
    /// Play a provider: both dialects, with every fault that a provider can show.
    Simulate {
        /// Where to listen.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9191")]
        listen: SocketAddr,
        /// Append what was received to this file, a JSON object a line.
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,
    },
}

/// Runs the program.
pub fn run() -> ExitCode {
    thread::adopt("main", Role::Main);
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are errors to clap, but not to the caller.
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match arguments.command {
        Command::Serve { config, demo } => serve(config, demo),
        Command::Admin(arguments) => admin::run(&arguments),
        Command::Simulate { listen, log } => simulate(listen, log),
    }
}

fn serve(file: Option<PathBuf>, demo: bool) -> ExitCode {
    let last_words = |signal: Signal| {
        ::log::warn!("{} again: ending at once", signal.as_str());
        log::flush(std::time::Duration::from_millis(300));
    };
    let signals = match signals::install(last_words) {
        Ok(signals) => signals,
        Err(error) => return complain(&format!("signals cannot be caught: {error}"), FAILED),
    };
    let source = config::locate(file.as_deref(), demo);
    let config = match config::load(&source) {
        Ok(config) => config,
        Err(faults) => {
            print_faults(&faults);
            let count = match faults.len() {
                1 => "1 fault".to_owned(),
                count => format!("{count} faults"),
            };
            return complain(&format!("{count} in the configuration; not started"), USAGE);
        }
    };
    let guard = match log::start(&config.logging) {
        Ok(guard) => guard,
        Err(error) => return complain(&error.to_string(), FAILED),
    };
    let code = match orchestrator::serve(config, &signals) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ::log::error!("victor was not started: {error}");
            ExitCode::from(if error.is_usage() { USAGE } else { FAILED })
        }
    };
    drop(guard);
    code
}

fn simulate(listen: SocketAddr, log: Option<PathBuf>) -> ExitCode {
    let signals = match signals::install(|_| {}) {
        Ok(signals) => signals,
        Err(error) => return complain(&format!("signals cannot be caught: {error}"), FAILED),
    };
    let listener = match front::bind(listen) {
        Ok(listener) => listener,
        Err(error) => return complain(&error.to_string(), USAGE),
    };
    let log_name = log.as_ref().map(|path| path.display().to_string());
    let server = match simulator::serve(listener, log) {
        Ok(server) => server,
        Err(error) => {
            let log = log_name.map_or_else(String::new, |log| format!(" (--log {log})"));
            return complain(&format!("the simulator cannot start{log}: {error}"), FAILED);
        }
    };
    println!("victor simulate ready listen={}", server.local_addr());
    for signal in &signals {
        match signal {
            Signal::User1 => {
                diagnostics::thread_dump::dump(None);
            }
            signal if signal.ends() => break,
            _ => {}
        }
    }
    server.stop();
    ExitCode::SUCCESS
}

/// Prints every fault of a configuration, a line each.
fn print_faults(faults: &[config::Fault]) {
    let mut stderr = std::io::stderr().lock();
    for fault in faults {
        // Standard error that cannot be written to leaves only the exit code.
        let _ = writeln!(stderr, "{fault}");
    }
}

/// Says on standard error why the program ends.
fn complain(message: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "victor: {message}");
    ExitCode::from(code)
}
