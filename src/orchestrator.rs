//! Puts the parts together, in the order in which they need each other, and takes them apart
//! again in the order that loses nothing.
//!
//! Start at [`serve`]: it starts everything, says so, and then does what signals ask for until
//! one of them asks for the end. A failed start leaves nothing behind but its message.

mod administer;
mod cache;
mod observe;

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, select};

use self::cache::Hands;
use crate::admin::server::Admin;
use crate::admin::socket::{BindError, Socket};
use crate::api::Api;
use crate::compute::Compute;
use crate::config::CheckedConfig;
use crate::config::checked::Server;
use crate::coordinator::{Coordinator, Registry};
use crate::front::{self, Front, Limits};
use crate::health::{Health, Lifecycle, Phase};
use crate::metrics::{Event, Metrics};
use crate::ops::Ops;
use crate::provider::Providers;
use crate::provider::route::Routes;
use crate::signals::Signal;
use crate::store::Store;
use crate::systemd::Notice;
use crate::thread::{self, Role};
use crate::{diagnostics, log, rlimit, systemd};

/// How much longer than `server.drain_timeout` the end may take: the last bytes of answers, the
/// database's last write.
const OVERRUN_MAX: Duration = Duration::from_secs(15);
/// What is left of the drain for answers that clients are still reading, at the least.
const LAST_BYTES_MIN: Duration = Duration::from_secs(1);
/// How long the log's writer may take to open its file anew.
const REOPEN_WAIT_MAX: Duration = Duration::from_millis(500);
/// A front thread that handles the same events for longer has been wedged by a fault of ours.
const WEDGED_AFTER: Duration = Duration::from_secs(10);

/// Why the daemon did not start.
#[derive(Debug)]
pub enum StartError {
    /// Something the operator can mend: an address or a socket that is taken.
    Usage(String),
    /// The system refused something.
    System(&'static str, io::Error),
}

impl StartError {
    /// Whether the configuration or command line must change.
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) => f.write_str(message),
            Self::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// The running daemon.
struct Daemon {
    config: CheckedConfig,
    api: Front,
    ops: Ops,
    admin: Admin,
    /// A drain that was asked for on the admin plane.
    drain_asked: Receiver<()>,
    coordinators: Arc<Registry>,
    providers: Arc<Providers>,
    store: Arc<Store>,
    cache: Hands,
    compute: Arc<Compute>,
    lifecycle: Arc<Lifecycle>,
    metrics: Arc<Metrics>,
}

/// Serves until a signal asks for the end, then drains.
///
/// # Errors
/// See [`StartError`]; nothing is left running then.
pub fn serve(config: CheckedConfig, signals: &Receiver<Signal>) -> Result<(), StartError> {
    for warning in &config.warnings {
        ::log::warn!("{warning}");
    }
    if ::log::log_enabled!(::log::Level::Debug) {
        for section in config.to_yaml() {
            ::log::debug!("in force: {section}");
        }
    }
    let daemon = Daemon::start(config)?;
    daemon.announce();
    daemon.attend_until_the_end(signals);
    daemon.drain(signals);
    Ok(())
}

impl Daemon {
    fn start(config: CheckedConfig) -> Result<Self, StartError> {
        let system = |what| move |error| StartError::System(what, error);
        let api_listener = bind("server.listen", &config)?;
        let ops_listener = bind("ops.listen", &config)?;
        let socket = bind_socket(&config)?;
        let limits = limits(&config)?;
        let metrics = Metrics::new(&config);
        let store = Store::open(&config.database)
            .map_err(system("the thread of the database cannot be started"))?;
        let providers = Arc::new(Providers::new(&config).map_err(StartError::Usage)?);
        let routes = Arc::new(Routes::new(&config, providers.by_name()));
        let cache = Hands::start(&config, &metrics, &store)
            .map_err(system("a thread of the cache cannot be started"))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let is_batching = config.providers.values().any(|it| it.batching.is_some());
        let compute = Compute::start(if is_batching { cores } else { 0 });
        let compute = Arc::new(compute.map_err(system("threads cannot be started"))?);
        let coordinators = Registry::start(
            &config.coordinators,
            &metrics,
            &store,
            &cache.answers,
            &compute,
            config.server.keep_alive_comment,
        )
        .map_err(system("the workers cannot be started"))?;
        let coordinators = Arc::new(coordinators);
        let lifecycle = Arc::new(Lifecycle::new());
        let health = Health::new(&config, Arc::clone(&metrics), Arc::clone(&lifecycle));
        health.show_store(Arc::clone(&store));
        let api = Api::new(
            &config,
            routes,
            Arc::clone(&coordinators),
            Arc::clone(&health),
            Arc::clone(&lifecycle),
            Arc::clone(&metrics),
            Arc::clone(&store),
        );
        let api = Front::start("api", api_listener, cores, limits, Arc::new(api))
            .map_err(system("the API plane cannot be started"))?;
        let sources = observe::sources(&metrics, &health);
        let ops = Ops::start(ops_listener, sources, &config.state_dir)
            .map_err(system("the ops plane cannot be started"))?;
        let own = cache.clone();
        health.show_cache(move || own.facts());
        let (ask_drain, drain_asked) = channel::bounded(1);
        let families = administer::families(
            &config, &health, &metrics, &providers, &store, &cache, ask_drain,
        );
        let admin =
            Admin::start(socket, families).map_err(system("the admin plane cannot be started"))?;
        observe::observe(&metrics, &health, &providers, &api);
        observe::observe_store(&metrics, &store);
        observe::observe_cache(&metrics, &cache.answers);
        Ok(Self {
            config,
            api,
            ops,
            admin,
            drain_asked,
            coordinators,
            providers,
            store,
            cache,
            compute,
            lifecycle,
            metrics,
        })
    }

    /// Says that the daemon is ready, on standard output and in the log.
    fn announce(&self) {
        self.lifecycle.advance(Phase::Ready);
        self.metrics.event(Event::ConfigLoaded);
        self.metrics.event(Event::Ready);
        let (api, ops) = (self.api.local_addr(), self.ops.local_addr());
        ::log::info!(
            version = env!("CARGO_PKG_VERSION"), api:% = api, ops:% = ops, demo = self.config.demo,
            admin:% = self.admin.path().display(), state_dir:% = self.config.state_dir.display(), keys = self.config.auth.keys.len(),
            ready_ms = thread::uptime_ms();
            "victor is ready"
        );
        self.cache.announce(&self.config);
        if self.config.demo {
            ::log::info!(
                "demo: the built-in simulator answers; ask it for the model 'sim'; state is in {}",
                self.config.state_dir.display()
            );
        }
        log::ready();
        println!("victor ready api={api} ops={ops}");
        systemd::notify(Notice::Ready);
    }

    /// Does what signals ask for until one of them, or the admin plane, asks for the end.
    fn attend_until_the_end(&self, signals: &Receiver<Signal>) {
        loop {
            select! {
                recv(signals) -> signal => match signal {
                    Ok(signal) => {
                        ::log::info!("{} received", signal.as_str());
                        if signal.ends() {
                            return;
                        }
                        self.attend(signal);
                    }
                    Err(_) => return,
                },
                // Its sender lives as long as the admin plane, which ends after this.
                recv(self.drain_asked) -> _ => {
                    ::log::info!("a drain was asked for by `victor admin`");
                    return;
                }
            }
        }
    }

    /// Does what a signal asks for, short of ending.
    fn attend(&self, signal: Signal) {
        match signal {
            Signal::Hangup => {
                log::reopen();
                // Only the writer knows whether the file could be opened. It opens it behind the
                // batch in hand, so the second wait is the one that counts.
                log::flush(REOPEN_WAIT_MAX);
                log::flush(REOPEN_WAIT_MAX);
                match log::writes_to_stderr() {
                    false => {
                        self.metrics.event(Event::LogReopened);
                        ::log::info!("log file reopened");
                    }
                    true => ::log::warn!(
                        "the log goes to stderr: there is no log file that can be opened"
                    ),
                }
            }
            Signal::User1 => {
                diagnostics::thread_dump::dump(log_folder(&self.config).as_deref());
                self.metrics.event(Event::ThreadDump);
            }
            // The first one after a drain was asked for on the admin plane.
            Signal::Terminate | Signal::Interrupt => {
                ::log::info!(
                    "draining already; a second {} ends at once",
                    signal.as_str()
                );
            }
            Signal::User2 => {}
        }
    }

    /// Ends: no new calls, the calls in flight to their end, then everything else.
    fn drain(self, signals: &Receiver<Signal>) {
        let deadline = Instant::now() + self.config.server.drain_timeout;
        self.lifecycle.advance(Phase::Draining);
        systemd::notify(Notice::Stopping);
        self.api.drain();
        self.metrics.event(Event::DrainStarted);
        self.coordinators.iter().for_each(|it| it.drain());
        ::log::info!(
            in_flight = self.calls_inside();
            "draining: calls in flight go on, new ones are told 503"
        );
        end_by(deadline + OVERRUN_MAX);
        if !self.wait_for_calls(deadline, signals) {
            ::log::warn!(
                in_flight = self.calls_inside();
                "server.drain_timeout ({} s) has passed; the calls that are left are ended",
                self.config.server.drain_timeout.as_secs_f64()
            );
        }
        self.admin.stop();
        self.ops.stop();
        let left = deadline.saturating_duration_since(Instant::now());
        self.api.stop(left.max(LAST_BYTES_MIN));
        self.coordinators.stop();
        self.cache.stop();
        self.compute.shutdown();
        // Nobody is left who could ask for something to be kept.
        self.store.shutdown();
        self.providers.shutdown();
        ::log::info!("victor has ended");
    }

    /// Calls that wait or run.
    fn calls_inside(&self) -> i64 {
        let inside =
            |it: &Arc<Coordinator>| it.metrics().queue_depth.get() + it.metrics().in_flight.get();
        let own: i64 = self.coordinators.iter().map(inside).sum();
        own + self.cache.answers.followers()
    }

    /// Waits for the calls in flight while signals are still attended to.
    fn wait_for_calls(&self, deadline: Instant, signals: &Receiver<Signal>) -> bool {
        let (tell, told) = channel::bounded(1);
        let coordinators = Arc::clone(&self.coordinators);
        let waiter = thread::spawn("drain", Role::Main, move || {
            // The receiver waits for this message alone.
            let _ = tell.send(coordinators.wait_empty(deadline));
            Ok(())
        });
        let Ok(waiter) = waiter else {
            return self.coordinators.wait_empty(deadline);
        };
        let empty = loop {
            select! {
                recv(told) -> empty => break empty.unwrap_or(false),
                recv(signals) -> signal => match signal {
                    Ok(signal) => self.attend(signal),
                    Err(_) => break told.recv().unwrap_or(false),
                },
            }
        };
        waiter.join();
        empty
    }
}

/// Ends the process at that time if it has not ended by then: a thread that is stuck must not keep
/// its successor from starting.
fn end_by(at: Instant) {
    let spawned = thread::spawn("end", Role::Main, move || {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        ::log::error!("a thread has not ended in time; the process ends without it");
        log::flush(REOPEN_WAIT_MAX);
        std::process::exit(1)
    });
    if let Err(error) = spawned {
        ::log::warn!("nobody watches the end: {error}");
    }
}

fn bind(key: &str, config: &CheckedConfig) -> Result<TcpListener, StartError> {
    let address = if key == "ops.listen" {
        config.ops.listen
    } else {
        config.server.listen
    };
    front::bind(address).map_err(|error| StartError::Usage(format!("{key}: {error}")))
}

/// Listens on the admin socket. A daemon that lives there already is the operator's to end.
fn bind_socket(config: &CheckedConfig) -> Result<Socket, StartError> {
    Socket::bind(&config.admin.socket).map_err(|error| match error {
        BindError::System(_, error) => {
            StartError::System("admin.socket cannot be listened on", error)
        }
        other => StartError::Usage(format!("admin.socket: {other}")),
    })
}

/// The folder of the log file, where thread dumps go.
fn log_folder(config: &CheckedConfig) -> Option<PathBuf> {
    let file = config.logging.file.as_deref();
    file.and_then(Path::parent).map(Path::to_owned)
}

/// The API plane's limits; its connections are cut to what the limit of open files allows.
fn limits(config: &CheckedConfig) -> Result<Limits, StartError> {
    let Server {
        max_connections,
        header_timeout,
        body_timeout,
        ..
    } = config.server;
    let files = rlimit::raise_open_files()
        .map_err(|error| StartError::System("the limit of open files cannot be raised", error))?;
    let upstream: usize = config
        .providers
        .values()
        .map(|it| it.max_connections.get())
        .sum();
    let shared = config.cache.redis.as_ref();
    let shared = shared.map_or(0, |it| it.max_connections.get());
    let (connections_max, warning) = rlimit::connection_budget(
        max_connections.get(),
        files,
        rlimit::RESERVE_BASE + upstream + shared,
    );
    if let Some(warning) = warning {
        ::log::warn!("{warning}");
    }
    Ok(Limits {
        body_bytes_max: config.server.max_body_bytes,
        connections_max,
        header_timeout,
        body_timeout,
        idle_timeout: config.server.idle_timeout,
        write_timeout: config.server.write_timeout,
        ..Limits::default()
    })
}
