//! Signals: USR1 dumps every thread, HUP reopens the log.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::common::daemon::{Daemon, chat};
use crate::common::http::{Connection, request};
use crate::common::simulator::Simulator;
use crate::common::{machine, wait};

#[test]
fn usr1_names_every_thread_and_the_call_it_works_for() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = Daemon::start(&simulator);
    let mut connection = Connection::open(daemon.api);
    let body = chat("simo/sim+latency-60000").to_string();
    let id = "x-request-id: stuck-call-1\r\n";
    connection.send(&request("/v1/chat/completions", id, body.as_bytes()));
    wait::until("the call runs", Duration::from_secs(10), || {
        (simulator.calls().len() == 1).then_some(())
    });
    daemon.process.signal(Signal::USR1);
    let names = daemon.process.thread_names();
    // It is read in pieces.
    let dump = wait::until("a dump of every thread", Duration::from_secs(10), || {
        let stderr = daemon.process.stderr();
        let is_whole = names.iter().all(|name| stderr.contains(name.as_str()));
        (is_whole && stderr.contains("stuck-call-1")).then_some(stderr)
    });
    let row = dump
        .lines()
        .find(|line| line.contains("stuck-call-1"))
        .unwrap_or_default();
    for word in ["worker", "waiting_first_byte", "simo"] {
        assert!(row.contains(word), "no {word} in {row:?}");
    }
    // The same goes to a file in the log folder.
    wait::until("the dump's file", Duration::from_secs(5), || {
        fs::read_dir(daemon.folder.path()).ok()?.find_map(|entry| {
            let path = entry.ok()?.path();
            let text = fs::read_to_string(&path).ok()?;
            (path != daemon.log_path() && text.contains("waiting_first_byte")).then_some(())
        })
    });
    drop(connection);
    daemon.assert_well();
}

#[test]
fn hup_reopens_the_log() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = Daemon::start(&simulator);
    let call = |id: &str| {
        let body = chat("simo/sim").to_string();
        let header = format!("x-request-id: {id}\r\n");
        let mut connection = Connection::open(daemon.api);
        connection.send(&request("/v1/chat/completions", &header, body.as_bytes()));
        assert_eq!(connection.answer().status, 200);
    };
    call("before-hup");
    daemon.log_of("before-hup");
    let rotated = daemon.folder.path().join("victor.log.1");
    fs::rename(daemon.log_path(), &rotated).expect("same folder");
    daemon.process.signal(Signal::HUP);
    wait::until("the new file", Duration::from_secs(5), || {
        daemon.log_path().exists().then_some(())
    });
    call("after-hup");
    daemon.log_of("after-hup");
    let old = fs::read_to_string(&rotated).expect("it was there");
    assert!(old.contains("before-hup") && !old.contains("after-hup"));
    daemon.assert_well();
}

#[test]
fn signals_in_a_row_do_no_harm() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = Daemon::start(&simulator);
    for _ in 0..50 {
        daemon.process.signal(Signal::HUP);
        daemon.process.signal(Signal::USR1);
    }
    daemon.assert_well();
}
