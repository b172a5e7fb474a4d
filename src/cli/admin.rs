//! `victor admin`: the verbs as they are typed, and what their end means to a shell.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 3 no daemon answers. `--json` prints the daemon's result
//! as it came; progress is shown on a terminal only.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{FAILED, NO_DAEMON, USAGE, complain, print_faults};
use crate::admin::client::{self, Failure};
use crate::admin::{Code, Progress, show};
use crate::config;

/// What is asked, and how to find whom to ask.
#[derive(Args)]
pub(super) struct Arguments {
    /// The daemon's socket. Without it: where the configuration has it.
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
    /// The daemon's configuration. Without it: looked for as `serve` does.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The daemon is a demonstration of this folder.
    #[arg(long, global = true)]
    demo: bool,
    /// Print the result as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The versions of the daemon and of this program.
    Version,
    /// How the daemon is: coordinators, and what is in trouble.
    Status,
    /// Take no new calls, finish those in flight, and end.
    Drain,
    /// Write what every thread does to a file, and print its path.
    ThreadDump,
    /// Read and set the configuration in force.
    #[command(subcommand)]
    Config(Setting),
    /// Check a configuration without a daemon and without changing anything.
    ValidateConfig,
    /// Connect to a provider anew, look its name up anew, close its breakers, use all of its keys.
    RestartProvider {
        #[arg(long, value_name = "NAME")]
        provider: String,
    },
    /// What the response cache holds and how often it helped.
    CacheStats,
    /// Take entries out of the response cache.
    ClearCache {
        /// Those of every coordinator.
        #[arg(
            long,
            required_unless_present = "coordinator",
            conflicts_with = "coordinator"
        )]
        all: bool,
        /// Those of this one.
        #[arg(long, value_name = "NAME")]
        coordinator: Option<String>,
    },
    /// Bring the most valuable entries back into the response cache.
    WarmCache {
        #[arg(long, value_name = "NAME")]
        coordinator: String,
        /// How many, at most.
        #[arg(long, value_name = "N", default_value_t = 1000)]
        items: usize,
    },
}

#[derive(Subcommand)]
enum Setting {
    /// Every setting.
    List,
    /// One setting, or a section of them.
    Get {
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Change a setting until the daemon ends.
    Set {
        #[arg(value_name = "KEY=VALUE", value_parser = pair)]
        pair: (String, String),
    },
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, as in database.log_queries=true".to_owned()),
    }
}

/// Does it.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let (verb, args) = match &arguments.verb {
        Verb::ValidateConfig => return validate(arguments),
        Verb::Version => ("version", json!({})),
        Verb::Status => ("status", json!({})),
        Verb::Drain => ("drain", json!({})),
        Verb::ThreadDump => ("thread-dump", json!({})),
        Verb::Config(Setting::List) => ("config-list", json!({})),
        Verb::Config(Setting::Get { key }) => ("config-get", json!({"key": key})),
        Verb::Config(Setting::Set { pair: (key, value) }) => {
            ("config-set", json!({"key": key, "value": value}))
        }
        Verb::RestartProvider { provider } => ("restart-provider", json!({"provider": provider})),
        Verb::CacheStats => ("cache-stats", json!({})),
        Verb::ClearCache { all, coordinator } => (
            "clear-cache",
            json!({"all": all, "coordinator": coordinator}),
        ),
        Verb::WarmCache { coordinator, items } => (
            "warm-cache",
            json!({"coordinator": coordinator, "items": items}),
        ),
    };
    let places = match sockets(arguments) {
        Ok(places) => places,
        Err(code) => return code,
    };
    let mut shown = Shown::new();
    let answer = client::ask(&places, verb, &args, |progress| shown.show(progress));
    shown.clear();
    match answer {
        Ok(result) if arguments.json => print(&format!("{result}\n")),
        Ok(result) => print(&show::text(verb, &result)),
        Err(failure) => fail(arguments, verb, failure),
    }
}

/// Where to look for the daemon.
fn sockets(arguments: &Arguments) -> Result<Vec<PathBuf>, ExitCode> {
    if let Some(socket) = &arguments.socket {
        return Ok(vec![socket.clone()]);
    }
    let source = config::locate(arguments.config.as_deref(), arguments.demo);
    config::admin_sockets(&source).map_err(|faults| {
        print_faults(&faults);
        complain(
            "the daemon cannot be looked for: name its socket with --socket",
            USAGE,
        )
    })
}

fn fail(arguments: &Arguments, verb: &str, failure: Failure) -> ExitCode {
    match failure {
        Failure::NoDaemon(places) => {
            let places: Vec<String> = places.iter().map(|it| it.display().to_string()).collect();
            let hint = match arguments.socket {
                Some(_) => "is it running, and is that its socket?",
                None => {
                    "is it running? If it is, name its configuration with --config, or its \
                     socket, which it logs at start, with --socket"
                }
            };
            let message = format!("no daemon answers at {}: {hint}", places.join(" or "));
            complain(&message, NO_DAEMON)
        }
        Failure::NoAnswer(place, why) => {
            let place = place.display();
            complain(
                &format!("the daemon at {place} does not answer: {why}"),
                NO_DAEMON,
            )
        }
        Failure::Denied(place, error) => {
            let message = format!(
                "{} cannot be used: {error}; be the daemon's user, or root",
                place.display()
            );
            complain(&message, FAILED)
        }
        Failure::Refused(error) => {
            if arguments.json {
                let _ = print(&format!("{}\n", json!({ "error": error })));
            }
            let code = match error.code {
                Code::BadArguments | Code::UnknownVerb => USAGE,
                _ => FAILED,
            };
            complain(&format!("admin {verb}: {error}"), code)
        }
    }
}

/// Checks the configuration that a daemon would read, as it would.
fn validate(arguments: &Arguments) -> ExitCode {
    let source = config::locate(arguments.config.as_deref(), arguments.demo);
    let name = source.name();
    let (faults, warnings) = match config::check(&source) {
        Ok(config) => (Vec::new(), config.warnings),
        Err(faults) => (faults, Vec::new()),
    };
    let is_valid = faults.is_empty();
    if arguments.json {
        let faults: Vec<Value> = faults.iter().map(fault).collect();
        let result = json!({
            "valid": is_valid, "file": name, "faults": faults, "warnings": warnings,
        });
        let printed = print(&format!("{result}\n"));
        return if is_valid {
            printed
        } else {
            ExitCode::from(FAILED)
        };
    }
    if !is_valid {
        print_faults(&faults);
        return complain(&format!("{name} is not valid"), FAILED);
    }
    for warning in warnings {
        // Standard error that cannot be written to leaves only the exit code.
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    print(&format!("{name} is valid\n"))
}

fn fault(fault: &config::Fault) -> Value {
    json!({
        "file": fault.file,
        "line": fault.line,
        "column": fault.column,
        "key": fault.key,
        "message": fault.message,
        "expected": fault.expected,
        "suggestion": fault.suggestion,
    })
}

/// Prints a result. A reader that has left, as `head` does, is no failure.
fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("the result cannot be printed: {error}"), FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// The line of progress on a terminal.
struct Shown {
    is_terminal: bool,
    is_there: bool,
}

impl Shown {
    fn new() -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
            is_there: false,
        }
    }

    fn show(&mut self, progress: &Progress) {
        if !self.is_terminal {
            return;
        }
        let Progress {
            done,
            total,
            message,
        } = progress;
        let of = match total {
            0 => String::new(),
            total => format!(" of {total}"),
        };
        let _ = write!(io::stderr(), "\r\x1b[K{message} {done}{of}");
        self.is_there = true;
    }

    fn clear(&self) {
        if self.is_there {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
