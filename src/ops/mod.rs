//! The ops plane: metrics, health and a status page, served by tiny_http behind a gate.
//!
//! tiny_http 0.12 must never meet a stranger's bytes. It aborts the process on a request that
//! declares a body of 60 TB and is dropped unread, since it allocates the rest of the body to
//! skip it; it reads a header without end into memory; and its accept loop dies at the limit of
//! open files. So the listener belongs to a [`Front`] of ours, with small limits. That front
//! reads the whole head within 8 KiB and 10 seconds, and reads a body of at most 16 KiB only to
//! drop it; a longer one is refused with a 413 unread. What passes is *parsed*, not forwarded: the gate
//! writes a new request with nothing in it but `GET`, a target of visible ASCII, and two headers
//! of ours, and sends it to tiny_http over a unix socket in a folder that only we may enter. No
//! `content-length`, `transfer-encoding` or `expect` can reach tiny_http, so it never has a body
//! to skip and never waits for the rest of a head. It sees one connection at a time, and what
//! kills its accept loop all the same is noticed by the gate, which has it built anew.
//!
//! Start reading at [`Ops::start`]; `gate.rs` is the way through, `http.rs` is tiny_http's side,
//! `pages.rs` what is said, `folder.rs` where the socket lies. Nothing here may slow the API
//! plane: the ops plane has its own threads, and a source that hangs costs only this plane.

mod folder;
mod gate;
mod http;
mod pages;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel;

use self::folder::SocketFolder;
use self::gate::Gate;
use self::http::Backend;
use crate::front::{Front, Limits, Stats};
use crate::thread::{self, Handle, Role};

/// The text of `/metrics`, in Prometheus' text format.
pub type MetricsSource = Box<dyn Fn() -> String + Send + Sync>;
/// Status and JSON body of a path that begins with `/health`; `None` for one that is not known.
pub type HealthSource = Box<dyn Fn(&str) -> Option<(u16, Vec<u8>)> + Send + Sync>;

/// Where the answers come from. Called on the ops plane's thread, one at a time.
pub struct Sources {
    pub metrics: MetricsSource,
    pub health: HealthSource,
}

/// Bytes of a head at most.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Bytes of a body at most. Nobody looks at it; it is read so that a POST is told 405 and its
/// connection goes on.
const BODY_BYTES_MAX: usize = 16 << 10;
/// Open connections at most.
const CONNECTIONS_MAX: usize = 64;
/// Requests that may wait for the gate; beyond it they get a 503.
const QUEUE_REQUESTS: usize = 64;
/// From a request's last byte to the end of its answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long answers under way may take at the end.
const STOP_GRACE: Duration = Duration::from_secs(1);

fn limits() -> Limits {
    Limits {
        head_bytes_max: HEAD_BYTES_MAX,
        body_bytes_max: BODY_BYTES_MAX,
        connections_max: CONNECTIONS_MAX,
        ..Limits::default()
    }
}

/// The running ops plane. Dropped without [`Ops::stop`], its threads go on.
pub struct Ops {
    front: Front,
    backend: Arc<Backend>,
    threads: Vec<Handle>,
}

impl Ops {
    /// Serves `listener`. The private socket is put into a new folder in `runtime_dir`, or in the
    /// temporary folder where that path is too long or not writable.
    ///
    /// # Errors
    /// No folder for the socket can be made, or a thread or a poller cannot be had.
    pub fn start(listener: TcpListener, sources: Sources, runtime_dir: &Path) -> io::Result<Self> {
        let folder = SocketFolder::create(runtime_dir)?;
        let backend = Arc::new(Backend::new(sources));
        let (is_serving, serving) = channel::bounded(1);
        let serve = Arc::clone(&backend);
        let http = thread::spawn("ops-http", Role::Ops, move || {
            serve.run(folder, &is_serving);
            Ok(())
        })?;
        // Whatever goes wrong from here on ends the thread above.
        let started = serving
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the ops plane's thread ended")))
            .and_then(|()| Self::open_gate(listener, &backend));
        match started {
            Ok((front, gate)) => Ok(Self {
                front,
                backend,
                threads: vec![gate, http],
            }),
            Err(error) => {
                backend.stop();
                http.join();
                Err(error)
            }
        }
    }

    fn open_gate(listener: TcpListener, backend: &Arc<Backend>) -> io::Result<(Front, Handle)> {
        let (queue, jobs) = channel::bounded(QUEUE_REQUESTS);
        let relay = Arc::clone(backend);
        let gate = thread::spawn("ops-gate", Role::Ops, move || {
            gate::run(&jobs, &relay);
            Ok(())
        })?;
        // Without a front the queue's only sender is gone, which ends the gate.
        let front = Front::start("ops", listener, 1, limits(), Arc::new(Gate::new(queue)))?;
        Ok((front, gate))
    }

    /// The address that is served.
    pub fn local_addr(&self) -> SocketAddr {
        self.front.local_addr()
    }

    /// What its front counts.
    pub fn stats(&self) -> &Arc<Stats> {
        self.front.stats()
    }

    /// Stops serving, removes the private socket and joins the threads.
    pub fn stop(self) {
        // The front goes first and with it the queue's only sender: the gate runs dry.
        self.front.stop(STOP_GRACE);
        self.backend.stop();
        self.threads.into_iter().for_each(Handle::join);
    }
}
