//! The admin socket itself: who may use it, where it lies, what becomes of it, and what hangs.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::common::admin::{self, Ran};
use crate::common::config::{Config, Folder};
use crate::common::daemon::Daemon;
use crate::common::machine;
use crate::common::simulator::Simulator;
use crate::common::wait;

fn socket(daemon: &Daemon) -> PathBuf {
    daemon.folder.path().join("admin.sock")
}

fn frame(text: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len())
        .expect("short")
        .to_be_bytes()
        .to_vec();
    bytes.extend_from_slice(text);
    bytes
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("a daemon listens");
    let limit = Some(Duration::from_secs(30));
    stream.set_read_timeout(limit).expect("above zero");
    stream
}

/// What the daemon answers to these bytes.
fn answer(path: &Path, bytes: &[u8]) -> Value {
    let mut stream = connect(path);
    stream.write_all(bytes).expect("room for it");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let mut text = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut text).expect("all of it");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn the_socket_is_its_owners_alone_and_gone_at_the_end() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = Daemon::start(&simulator);
    let path = socket(&daemon);
    let mode = fs::metadata(&path)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    daemon.terminate(Duration::from_secs(10));
    assert!(!path.exists());
    daemon.admin(&["status"]).failed(3, "no daemon answers at");
}

#[test]
fn without_a_daemon_it_says_where_it_looked_and_what_to_do() {
    let _turn = machine::light();
    let folder = Folder::new();
    let state = folder.path().join("state");
    folder.write(
        "victor.yml",
        &format!(
            "state_dir: {}\nproviders: {{openai: {{api_key: '${{NOT_SET_ANYWHERE}}'}}}}\n",
            state.display()
        ),
    );
    let ran = admin::run(folder.path(), &["--config", "victor.yml", "status"]);
    ran.failed(3, "/run/victor/admin.sock");
    ran.failed(3, "state/admin.sock");
    ran.failed(3, "--socket");
    admin::run(folder.path(), &["--socket", "nowhere/x.sock", "status"])
        .failed(3, "nowhere/x.sock");
    folder.write("bad.yml", "admin: {socket: ''}\n");
    let ran = admin::run(folder.path(), &["--config", "bad.yml", "status"]);
    ran.failed(2, "bad.yml:1:9: admin.socket");
    admin::run(folder.path(), &["--config", "none.yml", "status"]).failed(2, "none.yml");
}

/// The secrets of the daemon's configuration are not the client's to have.
#[test]
fn the_daemon_is_found_without_its_secrets_and_in_its_state_folder() {
    let _turn = machine::light();
    let folder = Folder::new();
    let text = format!(
        "server: {{listen: '127.0.0.1:0'}}\nops: {{listen: '127.0.0.1:0'}}\nstate_dir: {0}/state\n\
         admin: {{socket: {0}/nowhere/admin.sock}}\nlogging: {{file: stderr}}\n\
         providers: {{openai: {{api_key: '${{ONLY_THE_DAEMON_HAS_IT}}'}}}}\n",
        folder.path().display()
    );
    let file = folder.write("victor.yml", &text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_victor"));
    command
        .args(["serve", "--config"])
        .arg(&file)
        .env("ONLY_THE_DAEMON_HAS_IT", "sk-upstream-4714");
    let daemon = Daemon::run(command, folder);
    assert!(daemon.folder.path().join("state/admin.sock").exists());
    wait::until("the warning", Duration::from_secs(5), || {
        let stderr = daemon.process.stderr();
        stderr.contains("takes its place").then_some(())
    });
    assert_eq!(daemon.admin(&["version"]).code, 0);
    let direct = admin::run(
        daemon.folder.path(),
        &["--socket", "state/admin.sock", "version"],
    );
    assert_eq!(direct.code, 0, "{direct:?}");
}

#[test]
fn a_demonstration_is_found_in_its_folder() {
    let _turn = machine::light();
    let ports = Folder::new();
    let file = ports.write(
        "victor.yml",
        "server: {listen: 127.0.0.1:0}\nops: {listen: 127.0.0.1:0}\n",
    );
    // Deeper than the 107 bytes that the path of a socket may have.
    let folder = Folder::new();
    let deep = folder.path().join("x".repeat(120));
    fs::create_dir(&deep).expect("a fresh folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_victor"));
    command
        .args(["serve", "--demo", "--config"])
        .arg(file)
        .current_dir(&deep);
    let daemon = Daemon::run(command, folder);
    let version = admin::run(&deep, &["--demo", "--json", "version"]).json();
    assert_eq!(version["pid"], daemon.process.pid());
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_an_error() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let folder = Folder::new();
    let path = folder.path().join("shared.sock");
    let config = Config::behind(simulator.addr).set("admin.socket", path.display().to_string());
    let mut first = Daemon::with(&config);
    first.process.kill();
    assert!(path.exists(), "a killed daemon leaves its socket");
    first.admin(&["status"]).failed(3, "no daemon answers");
    let mut second = Daemon::with(&config);
    assert_eq!(second.admin(&["status"]).code, 0);

    let third = Folder::new();
    let file = third.write("victor.yml", &config.yaml(third.path()));
    let refused = Command::new("timeout")
        .args(["20", env!("CARGO_BIN_EXE_victor"), "serve", "--config"])
        .arg(file)
        .output()
        .expect("it runs");
    let refused = Ran::of(&refused);
    let log = fs::read_to_string(third.path().join("victor.log")).unwrap_or_default();
    assert_eq!(refused.code, 2, "{refused:?}");
    let pid = format!("process {}", second.process.pid());
    let said = format!("{log}{}", refused.stderr);
    assert!(
        said.contains("admin.socket") && said.contains(&pid),
        "{said}"
    );
    // The one that lives is none the worse.
    assert_eq!(second.admin(&["status"]).code, 0);
    second.assert_well();
}

#[test]
fn nonsense_and_silence_do_no_harm() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = Daemon::start(&simulator);
    let path = socket(&daemon);
    let check = |bytes: &[u8], code: &str| {
        let answer = answer(&path, bytes);
        assert_eq!(answer["error"]["code"], code, "{answer}");
    };
    check(&frame(b"nonsense"), "bad_request");
    check(&frame(&[0xff; 300]), "bad_request");
    check(&frame(b"{\"verb\":\"reboot\"}"), "unknown_verb");
    check(
        &frame(b"{\"verb\":\"status\",\"args\":{\"x\":1}}"),
        "bad_arguments",
    );
    check(&frame(b"{\"v\":9,\"verb\":\"status\"}"), "version");
    check(&((1 << 20) + 1_u32).to_be_bytes(), "too_long");
    check(b"GET / HTTP/1.1\r\nhost: victor\r\n\r\n", "too_long");
    // Clients that say nothing, half of something, or do not read: the next one is served.
    let hung: Vec<UnixStream> = (0..15)
        .map(|number| {
            let mut stream = connect(&path);
            let half = frame(b"{\"verb\":\"config-list\"}");
            let sent = if number % 3 == 0 {
                half.len()
            } else {
                number % 3
            };
            stream.write_all(&half[..sent]).expect("room for it");
            stream
        })
        .collect();
    assert_eq!(daemon.admin(&["status"]).code, 0);
    // With every place taken one more is told so, and the other planes do not notice.
    let more: Vec<UnixStream> = (0..20).map(|_| connect(&path)).collect();
    daemon.admin(&["status"]).failed(1, "connected already");
    daemon.assert_well();
    // Nor does the end wait for them.
    let status = daemon.terminate(Duration::from_secs(8));
    assert_eq!(status.code(), Some(0), "{status}");
    drop((hung, more));
}

/// The mode of the file keeps others out; where somebody has opened it to all, the kernel's word
/// on who asks does.
#[test]
fn another_user_is_refused() {
    let _turn = machine::light();
    if !rustix::process::geteuid().is_root() {
        return machine::skip("another_user_is_refused", "not run as root");
    }
    let Some(setpriv) = machine::tool("setpriv") else {
        return machine::skip("another_user_is_refused", "setpriv is not installed");
    };
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    // The binary may lie in a folder that nobody else may enter.
    let folder = Folder::new();
    let binary = folder.path().join("victor");
    fs::copy(env!("CARGO_BIN_EXE_victor"), &binary).expect("room for it");
    for path in [folder.path(), &binary, daemon.folder.path()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("ours");
    }
    let path = socket(&daemon);
    let ask = || {
        let output = Command::new(&setpriv)
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&binary)
            .args(["admin", "--socket"])
            .arg(&path)
            .arg("status")
            .output()
            .expect("it runs");
        Ran::of(&output)
    };
    ask().failed(1, "be the daemon's user, or root");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("ours");
    ask().failed(1, "user 65534 may not administer this daemon");
    assert_eq!(daemon.admin(&["status"]).code, 0);
}
