//! A server that answers with nonsense, with too much, with nothing, or one byte at a time.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const TIMEOUT_MS: u64 = 200;

/// What it does when it is asked.
#[derive(Clone, Copy)]
enum Act {
    Say(&'static [u8]),
    /// One byte every few milliseconds, without end.
    Drip(&'static [u8]),
    Nothing,
    Close,
}

/// Who has connected so far, and at most at a time.
#[derive(Default)]
struct Seen {
    open: AtomicUsize,
    most: AtomicUsize,
}

/// Answers probes as a server should, and everything else as `act` says.
fn serve(act: Act) -> (u16, Arc<Seen>) {
    serve_all(act, Act::Say(b":0\r\n"))
}

fn serve_all(act: Act, probe: Act) -> (u16, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Seen::default());
    let shown = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let seen = Arc::clone(&shown);
            let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
            seen.most.fetch_max(open, Ordering::SeqCst);
            std::thread::spawn(move || {
                converse(stream, act, probe);
                seen.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (port, seen)
}

fn converse(mut stream: TcpStream, act: Act, probe: Act) {
    let mut buffer = [0; 64 << 10];
    while let Ok(amount) = stream.read(&mut buffer)
        && amount > 0
    {
        let is_probe = memchr::memmem::find(&buffer[..amount], b"victor:p:").is_some();
        let done = match if is_probe { probe } else { act } {
            Act::Say(bytes) => stream.write_all(bytes),
            Act::Nothing => Ok(()),
            Act::Close => return,
            Act::Drip(first) => {
                let mut done = stream.write_all(first);
                while done.is_ok() {
                    std::thread::sleep(ms(5));
                    done = stream.write_all(b"x");
                }
                done
            }
        };
        if done.is_err() {
            return;
        }
    }
}

fn timed<T>(what: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = what();
    let took = start.elapsed();
    assert!(took < ms(TIMEOUT_MS) * SLACK, "{took:?}");
    result
}

#[test]
fn whatever_it_says_a_call_goes_on_in_time_and_it_is_left_alone() {
    for (act, why) in [
        (
            Act::Say(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            "unknown kind",
        ),
        (Act::Say(b"\x00\xff\x00\xff"), "unknown kind"),
        (Act::Say(b"$999999999999\r\n"), "over 8 MiB"),
        (Act::Say(b"$-7\r\n"), "a length that is none"),
        (Act::Say(b"*1000000\r\n"), "unknown kind"),
        (Act::Say(b":1\r\n"), "unknown kind"),
        (Act::Say(b"-LOADING it is\r\n"), "refused: LOADING"),
        (Act::Say(b"$100\r\nonly so much"), "no answer in time"),
        (Act::Drip(b"$8000000\r\n"), "no answer in time"),
        (Act::Drip(b"+"), "no answer in time"),
        (Act::Nothing, "no answer in time"),
        (Act::Close, "the connection ended"),
    ] {
        let (port, _) = serve(act);
        let cache = start_up(&shared(port, TIMEOUT_MS));
        assert_eq!(timed(|| cache.get(&key(1))), Found::Unavailable);
        let report = cache.report();
        assert_eq!(report.standing, Standing::Down, "{why}");
        let told = report.why.unwrap();
        assert!(told.contains(why), "{told}: {why}");
        assert_eq!(timed(|| cache.get(&key(1))), Found::Unavailable);
        assert_eq!(cache.count("get", "unavailable"), 1, "{why}");
    }
}

#[test]
fn a_claim_and_a_look_at_one_end_in_time_too() {
    for act in [Act::Nothing, Act::Close, Act::Drip(b"+"), Act::Say(b"??")] {
        let (port, _) = serve(act);
        let cache = start_up(&shared(port, TIMEOUT_MS));
        let claim = timed(|| cache.claim(&key(1), Duration::from_secs(1)));
        assert!(matches!(claim, Claim::Unavailable));
        let cache = start_up(&shared(port, TIMEOUT_MS));
        let until = Instant::now() + Duration::from_secs(3600);
        let cancel = crate::cancel::Cancel::new();
        assert_eq!(timed(|| cache.wait(&key(1), until, &cancel)), None);
    }
}

#[test]
fn a_password_that_the_server_quotes_is_not_told() {
    let quote = b"-ERR unknown command 'AUTH', with args beginning with: 'hunter2'\r\n";
    let (port, _) = serve_all(Act::Say(quote), Act::Say(quote));
    let mut config = shared(port, TIMEOUT_MS);
    config.password = Some(Secret::new("hunter2"));
    let cache = start(&config);
    let report = cache.report();
    assert_eq!(report.why.as_deref(), Some("refused: ERR"));
    assert!(!format!("{report:?}").contains("hunter2"));
}

#[test]
fn many_callers_share_few_connections_and_all_go_on_in_time() {
    let (port, seen) = serve(Act::Nothing);
    let cache = start_up(&shared(port, TIMEOUT_MS));
    std::thread::scope(|scope| {
        for number in 0..32 {
            let cache = &cache;
            scope.spawn(move || {
                assert_eq!(timed(|| cache.get(&key(number))), Found::Unavailable);
            });
        }
    });
    // Those that were given up may not have been seen to end when the next ones came, and the next.
    let most = seen.most.load(Ordering::SeqCst);
    assert!(most <= 3 * 4, "{most}");
    assert_eq!(cache.report().standing, Standing::Down);
}

#[test]
fn writes_wait_within_their_bounds_and_what_is_beyond_is_dropped() {
    let (port, _) = serve(Act::Nothing);
    let cache = start_up(&shared(port, TIMEOUT_MS));
    let large = vec![0; 1 << 20];
    for number in 0..64 {
        timed(|| cache.put(&key(number), &large, Duration::from_secs(60)));
        assert!(cache.queued_bytes() <= QUEUE_BYTES_MAX);
    }
    assert!(cache.count("put", "dropped") + cache.count("put", "unavailable") >= 32);
    eventually("the failure", || cache.report().standing == Standing::Down);
    eventually("the queue", || cache.queued_bytes() == 0);
    // Of small ones the number is bounded.
    let (port, _) = serve(Act::Nothing);
    let cache = start_up(&shared(port, TIMEOUT_MS));
    for _ in 0..QUEUE_ITEMS_MAX + 100 {
        cache.put(&key(1), b"", Duration::from_secs(60));
    }
    assert!(cache.count("put", "dropped") + cache.count("put", "unavailable") >= 99);
}

#[test]
fn a_name_without_an_address_is_a_server_that_is_down() {
    let mut config = shared(1, TIMEOUT_MS);
    config.host = "nowhere.invalid".to_owned();
    let cache = start(&config);
    assert_eq!(cache.report().standing, Standing::Down);
    assert_eq!(timed(|| cache.get(&key(1))), Found::Unavailable);
    let why = cache.report().why.unwrap();
    assert!(why.starts_with("no connection: "), "{why}");
}

#[test]
fn a_name_is_looked_up_by_the_thread() {
    let (port, _) = serve(Act::Say(b"$-1\r\n"));
    let mut config = shared(port, 2000);
    config.host = "localhost".to_owned();
    assert_eq!(start_up(&config).get(&key(1)), Found::Miss);
}
