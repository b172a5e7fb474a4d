//! The plane over a real socket, with verbs of its own: answers, bounds, and what hangs.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, Sender};
use serde_json::{Value, json};

use super::cache::{CacheAdmin, CacheStats, CacheVerbs, Cleared, Warmed};
use super::client::{self, Failure};
use super::server::{Admin, CONNECTIONS_MAX};
use super::socket::{self, Socket};
use super::{AdminError, Code, Progress, Report, Verbs, frame};

/// `echo` returns its arguments, `panic` panics, `wait` waits until it is let go.
struct Play {
    began: Sender<()>,
    go: Receiver<()>,
}

impl Verbs for Play {
    fn call(&self, verb: &str, args: &Value, _: Report<'_>) -> Option<Result<Value, AdminError>> {
        match verb {
            "echo" => Some(Ok(args.clone())),
            "panic" => panic!("on purpose"),
            "big" => Some(Ok("x".repeat(frame::ANSWER_BYTES_MAX).into())),
            "wait" => {
                self.began.send(()).unwrap();
                let _ = self.go.recv();
                Some(Ok(json!("went")))
            }
            _ => None,
        }
    }
}

/// A cache that has what it is asked for.
struct Full;

impl CacheAdmin for Full {
    fn stats(&self) -> CacheStats {
        CacheStats {
            policy: "lru",
            ..CacheStats::default()
        }
    }

    fn clear(&self, coordinator: Option<&str>) -> Result<Cleared, String> {
        let entries = if coordinator.is_some() { 1 } else { 2 };
        Ok(Cleared { entries, bytes: 9 })
    }

    fn warm(&self, _: &str, items: usize, report: Report<'_>) -> Result<Warmed, String> {
        let total = items as u64;
        for done in [1, 2] {
            let message = "warming".to_owned();
            report(Progress {
                done,
                total,
                message,
            });
        }
        Ok(Warmed {
            entries: total,
            ..Warmed::default()
        })
    }
}

struct Scene {
    admin: Option<Admin>,
    places: Vec<PathBuf>,
    folder: PathBuf,
    began: Receiver<()>,
    go: Sender<()>,
}

impl Scene {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("victor-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.sock");
        let (began, has_begun) = channel::bounded(CONNECTIONS_MAX);
        let (go, may_go) = channel::bounded(CONNECTIONS_MAX);
        let cache = CacheVerbs {
            cache: Some(std::sync::Arc::new(Full)),
            coordinators: vec!["ChatCoordinator".to_owned()],
        };
        let play = Play { began, go: may_go };
        let families: Vec<Box<dyn Verbs>> = vec![Box::new(cache), Box::new(play)];
        Self {
            admin: Some(Admin::start(Socket::bind(&path).unwrap(), families).unwrap()),
            places: vec![path],
            folder,
            began: has_begun,
            go,
        }
    }

    fn connect(&self) -> UnixStream {
        socket::connect(&self.places[0]).unwrap()
    }

    fn ask(&self, verb: &str, args: Value) -> Result<Value, Failure> {
        client::ask(&self.places, verb, &args, |_| ())
    }

    fn code(&self, verb: &str, args: Value) -> Code {
        match self.ask(verb, args) {
            Err(Failure::Refused(error)) => error.code,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn stop(&mut self) {
        self.admin.take().unwrap().stop();
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What the daemon says to these bytes.
fn answer(mut stream: UnixStream, bytes: &[u8]) -> Value {
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream.write_all(bytes).unwrap();
    let frame = frame::read(&mut stream, frame::ANSWER_BYTES_MAX).unwrap();
    serde_json::from_slice(&frame).unwrap()
}

#[test]
fn verbs_answer_and_faults_are_named() {
    let mut scene = Scene::new("admin-verbs");
    assert_eq!(scene.ask("echo", json!({"a": 1})).unwrap(), json!({"a": 1}));
    let check = |verb: &str, args: Value, code| assert_eq!(scene.code(verb, args), code, "{verb}");
    check("nonsense", json!({}), Code::UnknownVerb);
    check("panic", json!({}), Code::Internal);
    check("big", json!({}), Code::TooLong);
    check("clear-cache", json!({}), Code::BadArguments);
    check(
        "clear-cache",
        json!({"all": true, "coordinator": "x"}),
        Code::BadArguments,
    );
    check(
        "clear-cache",
        json!({"coordinator": "ChatCordinator"}),
        Code::BadArguments,
    );
    check("cache-stats", json!({"more": 1}), Code::BadArguments);
    let warm = json!({"coordinator": "ChatCoordinator", "items": 0});
    check("warm-cache", warm, Code::BadArguments);
    let cleared = scene.ask("clear-cache", json!({"all": true})).unwrap();
    assert_eq!(cleared["entries"], 2);
    scene.stop();
    assert!(matches!(
        scene.ask("echo", json!({})),
        Err(Failure::NoDaemon(_))
    ));
}

#[test]
fn progress_comes_before_the_result() {
    let scene = Scene::new("admin-progress");
    let mut seen = Vec::new();
    let args = json!({"coordinator": "ChatCoordinator", "items": 5});
    let report = |progress: &Progress| seen.push((progress.done, progress.total));
    let warmed = client::ask(&scene.places, "warm-cache", &args, report).unwrap();
    assert_eq!(warmed["entries"], 5);
    assert_eq!(seen, [(1, 5)], "the second is too soon after the first");
}

#[test]
fn bytes_that_are_no_request_are_told_so() {
    let scene = Scene::new("admin-garbage");
    let frame = |text: &str| {
        let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    let check = |bytes: &[u8], code: &str| {
        let answer = answer(scene.connect(), bytes);
        assert_eq!(answer["error"]["code"], code, "{answer}");
    };
    check(&frame("nonsense"), "bad_request");
    check(&frame("{}"), "bad_request");
    check(&frame("[]"), "bad_request");
    check(&frame(r#"{"v":2,"verb":"echo"}"#), "version");
    check(b"GET / HTTP/1.1\r\n\r\n", "too_long");
    check(&u32::MAX.to_be_bytes(), "too_long");
    check(
        &(frame::REQUEST_BYTES_MAX as u32 + 1).to_be_bytes(),
        "too_long",
    );
    // Half a frame and gone, and gone at once.
    scene.connect().write_all(&[0, 0]).unwrap();
    drop(scene.connect());
    assert_eq!(scene.ask("echo", json!({})).unwrap(), json!({}));
}

#[test]
fn clients_that_hang_fill_only_their_own_seats() {
    let mut scene = Scene::new("admin-hung");
    let mut hung: Vec<UnixStream> = (1..CONNECTIONS_MAX).map(|_| scene.connect()).collect();
    assert!(scene.ask("echo", json!({})).is_ok());
    hung.push(scene.connect());
    // The seat of the one that was served may be free a moment later.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !matches!(scene.ask("echo", json!({})), Err(Failure::Refused(error)) if error.code == Code::Busy)
    {
        assert!(Instant::now() < deadline, "never busy");
        hung.push(scene.connect());
    }
    drop(hung);
    let deadline = Instant::now() + Duration::from_secs(10);
    while scene.ask("echo", json!({})).is_err() {
        assert!(Instant::now() < deadline, "busy for ever");
    }
    // Nor do they hold up the end.
    let _hung = scene.connect();
    scene.stop();
}

#[test]
fn an_answer_under_way_goes_out_before_the_end() {
    let mut scene = Scene::new("admin-end");
    let stream = scene.connect();
    let request = frame::encode(&json!({"verb": "wait"}), 100).unwrap();
    (&mut &stream).write_all(&request).unwrap();
    scene.began.recv().unwrap();
    let go = scene.go.clone();
    go.send(()).unwrap();
    scene.stop();
    assert_eq!(answer(stream, b""), json!({"ok": "went"}));
}

#[test]
fn a_verb_that_hangs_does_not_hold_up_the_end() {
    let mut scene = Scene::new("admin-wedged");
    let stream = scene.connect();
    let request = frame::encode(&json!({"verb": "wait"}), 100).unwrap();
    (&mut &stream).write_all(&request).unwrap();
    scene.began.recv().unwrap();
    let began = Instant::now();
    scene.stop();
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(!scene.places[0].exists(), "the socket is still there");
    scene.go.send(()).unwrap();
}
