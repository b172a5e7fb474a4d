//! tiny_http's side: a server on the private socket, and the thread that answers.
//!
//! tiny_http starts its threads itself; they take over the name of the thread that builds the
//! server, so all of them are `ops-http`. A server whose accept loop has died is built anew, not
//! more often than once a second.

use std::io;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{self, Receiver, Sender};
use tiny_http::{Header, Request, Response, Server};

use super::Sources;
use super::folder::SocketFolder;
use super::pages::{self, Page};
use crate::sync::Mutex;
use crate::thread::{self, State};

/// Between two attempts to build the server; doubled up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A server and where it listens.
#[derive(Clone)]
struct Current {
    server: Arc<Server>,
    path: PathBuf,
}

/// What the gate and the serving thread share.
pub(super) struct Backend {
    sources: Sources,
    current: Mutex<Option<Current>>,
    stopping: AtomicBool,
    /// Ends a pause between two attempts; the sender is dropped at the end.
    wake: Mutex<Option<Sender<()>>>,
    woken: Receiver<()>,
}

impl Backend {
    pub fn new(sources: Sources) -> Self {
        let (wake, woken) = channel::bounded(1);
        Self {
            sources,
            current: Mutex::new("ops.current", None),
            stopping: AtomicBool::new(false),
            wake: Mutex::new("ops.wake", Some(wake)),
            woken,
        }
    }

    /// Where tiny_http listens now; `None` while it is being built.
    pub fn path(&self) -> Option<PathBuf> {
        self.current
            .lock()
            .as_ref()
            .map(|current| current.path.clone())
    }

    /// Has the server on `path` built anew: it does not take connections any more.
    pub fn rebuild(&self, path: &PathBuf) {
        let current = self.current.lock().clone();
        if let Some(current) = current.filter(|current| current.path == *path) {
            current.server.unblock();
        }
    }

    /// Ends the serving thread.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake.lock().take();
        let current = self.current.lock().clone();
        if let Some(current) = current {
            current.server.unblock();
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Serves until [`Backend::stop`]. Says once how the first attempt went.
    pub fn run(&self, mut folder: SocketFolder, is_serving: &Sender<io::Result<()>>) {
        let mut backoff = BACKOFF_MIN;
        for number in 0_u32.. {
            if self.is_stopping() {
                return;
            }
            match self.build(&mut folder, number) {
                Ok(server) => {
                    // Nobody waits any more after the first attempt.
                    let _ = is_serving.try_send(Ok(()));
                    if self.serve(&server) {
                        backoff = BACKOFF_MIN;
                    }
                    *self.current.lock() = None;
                }
                Err(error) if number == 0 => {
                    let _ = is_serving.try_send(Err(error));
                    return;
                }
                Err(error) => log::error!("cannot build the ops plane's server: {error}"),
            }
            thread::set_state(State::Idle);
            let _ = self.woken.recv_timeout(backoff);
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn build(&self, folder: &mut SocketFolder, number: u32) -> io::Result<Arc<Server>> {
        let mut path = folder.socket(number);
        let listener = match UnixListener::bind(&path) {
            Ok(listener) => listener,
            // Somebody cleaned up behind us.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                folder.renew()?;
                path = folder.socket(number);
                UnixListener::bind(&path)?
            }
            Err(error) => return Err(error),
        };
        // It panics where the system refuses it a thread.
        let server = catch_unwind(|| Server::from_listener(listener, None))
            .map_err(|_| io::Error::other("tiny_http panicked"))?
            .map_err(io::Error::other)?;
        let server = Arc::new(server);
        *self.current.lock() = Some(Current {
            server: Arc::clone(&server),
            path,
        });
        Ok(server)
    }

    /// Answers until the server ends. Returns whether it answered anything.
    fn serve(&self, server: &Server) -> bool {
        let mut answered = false;
        loop {
            thread::set_state(State::Idle);
            let request = match server.recv() {
                Ok(request) => request,
                Err(_) if self.is_stopping() => return answered,
                Err(error) => {
                    log::error!("the ops plane's server ended and is built anew: {error}");
                    return answered;
                }
            };
            thread::set_state(State::Running);
            self.answer(request);
            answered = true;
        }
    }

    fn answer(&self, request: Request) {
        let target = request.url().to_owned();
        // The panic itself is logged by the log's hook.
        let page = catch_unwind(AssertUnwindSafe(|| pages::page(&target, &self.sources)))
            .unwrap_or_else(|_| pages::broken());
        if let Err(error) = request.respond(response(page)) {
            log::warn!("the ops plane's gate did not take an answer: {error}");
        }
    }
}

fn response(page: Page) -> Response<io::Cursor<Vec<u8>>> {
    let response = Response::from_data(page.body)
        .with_status_code(page.status)
        // The gate wants a length, however long the answer is.
        .with_chunked_threshold(usize::MAX);
    match Header::from_bytes("content-type", page.content_type) {
        Ok(header) => response.with_header(header),
        // Every content type is one of our constants.
        Err(()) => response,
    }
}
