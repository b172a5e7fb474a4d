//! A real server for one test, on a port of its own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// A `redis-server` that keeps nothing. Ends with the test.
pub struct Redis {
    child: Child,
    pub port: u16,
    arguments: Vec<String>,
}

impl Redis {
    /// Starts one; `None` where there is none to start, which is said.
    ///
    /// # Panics
    /// Where `CI=true`: there, everything runs.
    pub fn start(test: &str, arguments: &[&str]) -> Option<Self> {
        let found = ["redis-server", "valkey-server"].into_iter().find(|name| {
            let version = Command::new(name).arg("--version").output();
            version.is_ok_and(|output| output.status.success())
        });
        let Some(program) = found else {
            let ci = std::env::var("CI").as_deref() == Ok("true");
            assert!(
                !ci,
                "{test}: no redis-server, and CI=true allows no skipping"
            );
            eprintln!("SKIPPED {test}: redis-server is not installed");
            return None;
        };
        let port = free_port();
        let mut all = vec![program.to_owned()];
        let port_text = port.to_string();
        let own = ["--port", &port_text, "--bind", "127.0.0.1", "--save", ""];
        let own = own.iter().chain(&["--appendonly", "no", "--dir", "/"]);
        all.extend(own.chain(arguments).map(|it| (*it).to_owned()));
        let child = spawn(&all);
        let redis = Self {
            child,
            port,
            arguments: all,
        };
        redis.wait_until_it_listens();
        Some(redis)
    }

    fn wait_until_it_listens(&self) {
        let mut commands = Vec::new();
        command(&mut commands, &[b"PING"]);
        eventually("the server", || {
            let reply = self.ask(&commands);
            reply.is_ok_and(|reply| reply != Reply::Error("LOADING".to_owned()))
        });
    }

    /// Stands still: connections are taken by the kernel, nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Goes on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Is gone, and with it what it had.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Is there again, empty, on the same port.
    pub fn restart(&mut self) {
        self.child = spawn(&self.arguments);
        self.wait_until_it_listens();
    }

    /// Changes a setting.
    pub fn configure(&self, name: &str, value: &str) {
        let mut commands = Vec::new();
        let words = ["CONFIG", "SET", name, value].map(str::as_bytes);
        command(&mut commands, &words);
        self.send(&commands);
    }

    /// Sends commands, one reply expected.
    pub fn send(&self, commands: &[u8]) {
        let reply = self.ask(commands).unwrap();
        assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
    }

    fn ask(&self, commands: &[u8]) -> Result<Reply, Fault> {
        let address = ([127, 0, 0, 1], self.port).into();
        let until = Instant::now() + Duration::from_secs(10);
        let mut link = link::Link::open(&[address], None, until)?;
        link.exchange(commands, until).map(|[reply]| reply)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port below those that the system gives to clients: whoever connects to one of those while nobody
/// listens there may be given that very port, and finds itself.
fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(10_000..32_000));
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.find(is_free).unwrap()
}

fn spawn(arguments: &[String]) -> Child {
    Command::new(&arguments[0])
        .args(&arguments[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
