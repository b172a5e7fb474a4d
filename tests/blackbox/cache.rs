//! The response cache: what is answered from it, in which shape, and what never is.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::config::Config;
use crate::common::daemon::{Daemon, chat, message};
use crate::common::exposition::Scrape;
use crate::common::http::{Answer, Connection, PATIENCE, post_with, request};
use crate::common::machine;
use crate::common::simulator::Simulator;
use crate::common::sse::{Event, Stream};
use crate::common::{http, wait};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

/// A daemon with a cache, in front of `simulator`.
fn cached(simulator: &Simulator) -> Daemon {
    Daemon::with(&config(simulator))
}

fn config(simulator: &Simulator) -> Config {
    Config::behind(simulator.addr)
        .set("cache", json!({"enabled": true}))
        .providers("prices", json!({"sim": {"input": 3, "output": 15}}))
}

fn how(answer: &Answer) -> &str {
    answer.header("x-victor-cache").unwrap_or_default()
}

fn streamed(mut body: Value, usage: bool) -> Value {
    body["stream"] = true.into();
    if usage {
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

/// All events of a streamed call, and how it met the cache.
fn events(daemon: &Daemon, path: &str, body: &Value) -> (String, Vec<Event>) {
    let mut stream = Stream::open(daemon.api, path, body);
    let events = stream.events().expect("a whole stream");
    let how = stream.head.header("x-victor-cache").unwrap_or_default();
    (how.to_owned(), events)
}

fn datas(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.data.clone()).collect()
}

#[test]
fn an_equal_call_is_answered_from_the_cache_byte_for_byte() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = cached(&simulator);
    let first = daemon.post(CHAT, &chat("simo/sim"));
    assert_eq!(how(&first), "miss");
    assert_eq!(first.header("x-victor-attempts"), Some("1"));
    assert_eq!(first.header("age"), None);
    // Another order, other spaces, another escape: the same question.
    let body = chat("simo/sim").to_string();
    let content = body.find("\"content\"").expect("there");
    let spaced = body
        .replace(':', " :\n ")
        .replace("\"model\"", "\"\\u006dodel\"");
    assert!(content > 0 && spaced != body);
    for text in [body.as_str(), spaced.as_str()] {
        let again = http::post(daemon.api, CHAT, text.as_bytes());
        assert_eq!((again.status, how(&again)), (200, "hit"), "{text}");
        assert_eq!(again.body, first.body);
        assert_eq!(again.header("content-type"), first.header("content-type"));
        assert_eq!(again.header("x-victor-provider"), Some("simo"));
        assert_eq!(again.header("x-victor-attempts"), Some("0"));
        let age = again.header("age").and_then(|age| age.parse::<u64>().ok());
        assert!(age.is_some_and(|age| age < 20), "{again:?}");
    }
    let mut other = chat("simo/sim");
    other["unknown_field"] = 1.into();
    assert_eq!(how(&daemon.post(CHAT, &other)), "miss");
    assert_eq!(simulator.calls().len(), 2);

    let scrape = Scrape::of(daemon.ops);
    let own = [("coordinator", "ChatCoordinator")];
    assert_eq!(scrape.count("victor_coordinator_cache_hits_total", &own), 2);
    assert_eq!(
        scrape.count("victor_coordinator_cache_misses_total", &own),
        2
    );
    assert_eq!(scrape.count("victor_coordinator_executions_total", &own), 4);
    assert_eq!(
        scrape.sum("victor_coordinator_cache_hit_rate", &own),
        Some(0.5)
    );
    let usage = &first.json()["usage"];
    let saved = |kind| {
        let labels = [("coordinator", "ChatCoordinator"), ("type", kind)];
        scrape.count("victor_cache_saved_tokens_total", &labels)
    };
    assert_eq!(
        saved("input"),
        2 * usage["prompt_tokens"].as_u64().expect("a count")
    );
    assert_eq!(
        saved("output"),
        2 * usage["completion_tokens"].as_u64().expect("a count")
    );
    // Dollars for a million tokens.
    let dollars = (3 * saved("input") + 15 * saved("output")) as f64 / 1e6;
    let told = scrape.sum("victor_cache_saved_dollars_total", &own);
    assert!(
        told.is_some_and(|told| (told - dollars).abs() < 2e-6),
        "{told:?} {dollars}"
    );
    let health = daemon.get("/health/detailed").json();
    assert_eq!(health["cache_saved"]["hits"], 2);
    assert!(health["cache_saved"]["seconds"].is_number());
    let component = &health["components"]["cache.response"];
    assert_eq!(component["details"]["entries"], 2);
    let id = first.header("x-request-id").expect("an id");
    assert_eq!(daemon.log_of(id)["cache"], "miss");
}

#[test]
fn an_answer_is_given_in_the_shape_that_is_asked_for() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = cached(&simulator);
    for (path, body) in [
        (CHAT, chat("simo/sim+tools")),
        (MESSAGES, message("sima/sim")),
    ] {
        simulator.reset();
        let whole = daemon.post(path, &body);
        assert_eq!(how(&whole), "miss");
        let (how_streamed, from_whole) =
            events(&daemon, path, &streamed(body.clone(), path == CHAT));
        assert_eq!(how_streamed, "hit");
        assert_eq!(simulator.calls().len(), 1);
        // The other way round, of a call that differs.
        let mut other = body.clone();
        other["temperature"] = 0.into();
        let stream = streamed(other.clone(), path == CHAT);
        let (how_first, first) = events(&daemon, path, &stream);
        let (how_second, second) = events(&daemon, path, &stream);
        assert_eq!((how_first.as_str(), how_second.as_str()), ("miss", "hit"));
        assert_eq!(datas(&first), datas(&second));
        let from_stream = daemon.post(path, &other);
        assert_eq!(how(&from_stream), "hit");
        assert_eq!(simulator.calls().len(), 2);
        // Whichever way, the same is said.
        let (mut one, mut two) = (whole.json(), from_stream.json());
        for json in [&mut one, &mut two] {
            for own in ["id", "created"] {
                json[own] = Value::Null;
            }
            // No stream has these.
            if let Some(message) = json.pointer_mut("/choices/0/message") {
                message
                    .as_object_mut()
                    .expect("a message")
                    .remove("annotations");
            }
        }
        assert_eq!(one, two, "{path}");
        let last = from_whole.last().map(|event| event.data.as_str());
        assert!(
            last.is_some_and(|data| data == "[DONE]" || data.contains("message_stop")),
            "{from_whole:?}"
        );
    }
}

#[test]
fn a_stream_without_usage_is_answered_without_and_never_with() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = cached(&simulator);
    let bare = streamed(chat("simo/sim"), false);
    let full = streamed(chat("simo/sim"), true);
    let has_usage = |events: &[Event]| {
        events
            .iter()
            .any(|event| event.data.contains("\"prompt_tokens\""))
    };
    let (how_bare, first) = events(&daemon, CHAT, &bare);
    assert!(how_bare == "miss" && !has_usage(&first));
    // What was streamed without its usage is not enough for those who want it.
    let (how_full, with) = events(&daemon, CHAT, &full);
    assert!(how_full == "miss" && has_usage(&with));
    assert_eq!(how(&daemon.post(CHAT, &chat("simo/sim"))), "hit");
    // The other way round it is.
    let other = |usage| streamed(chat("simo/sim+pace-1x9"), usage);
    let (how_full, with) = events(&daemon, CHAT, &other(true));
    let (how_bare, without) = events(&daemon, CHAT, &other(false));
    assert_eq!((how_full.as_str(), how_bare.as_str()), ("miss", "hit"));
    assert!(has_usage(&with) && !has_usage(&without));
    assert_eq!(with.len(), without.len() + 1);
    assert_eq!(simulator.calls().len(), 3);
}

#[test]
fn what_is_not_a_whole_success_is_never_kept() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::with(&config(&simulator).one_attempt());
    for behaviour in ["status-500", "status-400", "status-429", "context-length"] {
        let body = chat(&format!("simo/sim+{behaviour}"));
        for _ in 0..2 {
            let answer = daemon.post(CHAT, &body);
            assert!(answer.status >= 400 && how(&answer) == "miss", "{answer:?}");
        }
    }
    for behaviour in ["cut-4", "malformed-3"] {
        let body = streamed(chat(&format!("simo/sim+pace-1x20+{behaviour}")), true);
        for _ in 0..2 {
            let mut stream = Stream::open(daemon.api, CHAT, &body);
            let _ = stream.events();
            let how = stream.head.header("x-victor-cache");
            if behaviour == "cut-4" {
                assert_eq!(how, Some("miss"), "{behaviour}");
            }
        }
    }
    let hits = Scrape::of(daemon.ops).count(
        "victor_coordinator_cache_hits_total",
        &[("coordinator", "ChatCoordinator")],
    );
    assert_eq!(hits, 0);
}

#[test]
fn a_caller_has_its_say() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = cached(&simulator);
    let body = chat("simo/sim").to_string();
    let ask = |headers: &str| {
        let answer = post_with(daemon.api, CHAT, headers, body.as_bytes());
        let id = answer.header("x-victor-upstream-request-id");
        (how(&answer).to_owned(), id.map(str::to_owned))
    };
    assert_eq!(ask("cache-control: no-store\r\n").0, "bypass");
    let (first, old) = ask("");
    assert_eq!((first.as_str(), ask("").1), ("miss", old.clone()));
    assert_eq!(ask("cache-control: no-store\r\n").0, "bypass");
    // A fresh answer, which replaces the old one.
    let (fresh, new) = ask("cache-control: no-cache\r\n");
    assert!(fresh == "miss" && new != old, "{new:?} {old:?}");
    assert_eq!(ask(""), ("hit".to_owned(), new));
    assert_eq!(ask("cache-control: max-age=60\r\n").0, "hit");
    assert_eq!(ask("cache-control: max-age=0\r\n").0, "miss");
    assert_eq!(ask("cache-control: max-age=soon\r\n").0, "miss");
    // Several lines are one list.
    let lines = "cache-control: max-age=60\r\ncache-control: no-store\r\n";
    assert_eq!(ask(lines).0, "bypass");
    let other = chat("simo/sim+pace-1x3").to_string();
    let ttl = |seconds: &str| {
        let header = format!("x-victor-ttl: {seconds}\r\n");
        post_with(daemon.api, CHAT, &header, other.as_bytes())
    };
    assert_eq!(how(&ttl("1")), "miss");
    assert_eq!(how(&ttl("1")), "hit");
    wait::until("the answer to be too old", Duration::from_secs(5), || {
        (how(&ttl("1")) == "miss").then_some(())
    });
    let refused = ttl("soon");
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "invalid_ttl");
}

#[test]
fn callers_share_answers_only_where_they_may() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let keys = |config: Config| config.set("auth", json!({"keys": ["key-one", "key-two"]}));
    for (shared, expected) in [(false, "miss"), (true, "hit")] {
        let config = keys(config(&simulator)).set("cache.shared_between_keys", shared);
        let daemon = Daemon::with(&config);
        let ask = |key: &str| {
            let headers = format!("authorization: Bearer {key}\r\n");
            let body = chat("simo/sim").to_string();
            let answer = post_with(daemon.api, CHAT, &headers, body.as_bytes());
            how(&answer).to_owned()
        };
        assert_eq!(ask("key-one"), "miss");
        assert_eq!(ask("key-one"), "hit");
        assert_eq!(ask("key-two"), expected);
    }
}

#[test]
fn sampled_and_stored_answers_are_kept_only_where_that_is_meant() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = config(&simulator).set(
        "coordinators.named",
        json!({"Exact": {"cache_sampled": false}, "Brief": {"cache_ttl": 0}}),
    );
    let daemon = Daemon::with(&config.set("cache.coalescing_window_ms", 0));
    let ask = |coordinator: &str, members: Value| {
        let mut body = chat("simo/sim");
        for (name, value) in members.as_object().expect("members") {
            body[name] = value.clone();
        }
        let header = format!("x-victor-coordinator: {coordinator}\r\n");
        let twice = [0, 1].map(|_| {
            let text = body.to_string();
            how(&post_with(daemon.api, CHAT, &header, text.as_bytes())).to_owned()
        });
        twice.join(" ")
    };
    assert_eq!(ask("ChatCoordinator", json!({})), "miss hit");
    assert_eq!(
        ask("ChatCoordinator", json!({"store": true})),
        "bypass bypass"
    );
    assert_eq!(ask("Exact", json!({})), "bypass bypass");
    assert_eq!(ask("Exact", json!({"temperature": 1})), "bypass bypass");
    assert_eq!(ask("Exact", json!({"temperature": 0.0})), "miss hit");
    assert_eq!(ask("Exact", json!({"seed": 7})), "miss hit");
    assert_eq!(ask("Brief", json!({})), "miss miss");
}

#[test]
fn a_big_call_is_answered_from_the_cache_too() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = cached(&simulator);
    let mut body = chat("simo/sim");
    body["messages"][0]["content"] = "word ".repeat(120_000).into();
    let first = daemon.post(CHAT, &body);
    assert_eq!((first.status, how(&first)), (200, "miss"));
    let second = daemon.post(CHAT, &body);
    assert_eq!((second.status, how(&second)), (200, "hit"));
    assert_eq!(first.body, second.body);
    assert_eq!(simulator.calls().len(), 1);
}

#[test]
fn hits_that_nobody_reads_are_bounded_and_end_no_other_stream() {
    let _turn = machine::heavy();
    machine::raise_file_limit();
    let simulator = Simulator::start();
    let config = config(&simulator).providers("timeout", 60);
    let mut daemon = Daemon::with(&config);
    // Several times what sockets hold.
    let mut big = chat("simo/sim+pace-0x1000000");
    big["n"] = 4.into();
    let big = big.to_string();
    let size = {
        let mut first = Connection::open(daemon.api);
        first.send(&request(CHAT, "", big.as_bytes()));
        first.within(PATIENCE * 3).answer().body.len()
    };
    let others = streamed(chat("simo/sim+pace-20x100"), true);
    let mut other = Stream::open(daemon.api, CHAT, &others);
    other.next_event().expect("begun");
    // More than all clients may leave unread.
    let mute: Vec<_> = (0..(600 << 20) / size)
        .map(|_| {
            let mut mute = Connection::open(daemon.api);
            mute.send(&request(CHAT, "", big.as_bytes()));
            mute
        })
        .collect();
    let ended = |daemon: &Daemon| {
        let name = "victor_http_connections_ended_total";
        Scrape::of(daemon.ops).count(name, &[("reason", "slow_client")])
    };
    wait::until("some to be ended", PATIENCE * 3, || {
        (ended(&daemon) > 0).then_some(())
    });
    let rss = daemon.process.rss_kib() / 1024;
    println!(
        "{} mute callers of {size} bytes: {rss} MiB resident",
        mute.len()
    );
    assert!(rss < 450, "{rss} MiB");
    other.events().expect("a whole stream");
    assert!(other.raw.ends_with(b"data: [DONE]\n\n"));
    drop(mute);
    daemon.assert_well();
}
