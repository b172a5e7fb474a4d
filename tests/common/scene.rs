//! A route in front of a faulty provider, played for every pair of dialects at once: what each
//! caller heard, and what each provider saw of its call.
//!
//! Every row has providers and model names of its own, so that rows share no breaker, no budget
//! and no memory of the simulator's. Start at [`Scene::run`].

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value, json};

use super::caller::{self, Dialect, Heard};
use super::config::Config;
use super::daemon::Daemon;
use super::http;
use super::machine;
use super::simulator::{Call, Simulator};

/// Words of every whole answer.
pub const WORDS: usize = 60;
/// The default of `coordinators.retry.max_attempts`: for each target.
pub const ATTEMPTS_MAX: usize = 3;
/// Two attempts at a target that said 429 are the most in so long a time.
const HAMMERING: Duration = Duration::from_millis(1500);
/// How much earlier than it was sent a request may seem to arrive: clocks are read at both ends.
const CLOCK_SLACK: Duration = Duration::from_millis(20);

/// Who calls whom.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What the caller speaks.
    pub caller: Dialect,
    /// What the preferred target speaks.
    pub first: Dialect,
    /// What the other target speaks, if there is one.
    pub next: Option<Dialect>,
    /// Whether a stream is asked for.
    pub stream: bool,
}

/// A route and the fault of its preferred target.
pub struct Scene {
    fault: String,
    next: Option<String>,
    settings: Vec<(String, Value)>,
    providers: Vec<(String, Value)>,
    route: Vec<(String, Value)>,
    first_target: Vec<(String, Value)>,
    next_target: Vec<(String, Value)>,
    limit: Duration,
    restarts: bool,
}

/// What became of one row.
pub struct Seen {
    /// Who called whom.
    pub row: Row,
    /// What the caller heard.
    pub heard: Heard,
    /// The requests at the preferred target.
    pub first: Vec<Call>,
    /// The requests at the other one.
    pub next: Vec<Call>,
    /// The name of the preferred target's provider.
    pub first_name: String,
    /// The name of the other one's.
    pub next_name: String,
    /// The whole answer's text.
    pub whole: String,
}

/// The answer of [`WORDS`] words that any target gives which is not at fault.
pub fn whole_text(simulator: &Simulator) -> String {
    let body = caller::body(&format!("sim+pace-0x{WORDS}"), false);
    let answer = http::post(simulator.addr, "/v1/chat/completions", body.as_bytes());
    let text = caller::text_of(&answer);
    assert_eq!(text.split_whitespace().count(), WORDS, "{text}");
    text
}

/// The address of the simulator as a provider of that kind is told it.
pub fn base_url(kind: Dialect, addr: SocketAddr) -> String {
    match kind {
        Dialect::Openai => format!("http://{addr}/v1"),
        Dialect::Anthropic => format!("http://{addr}"),
    }
}

impl Scene {
    /// A route of two targets, the preferred one at fault.
    pub fn two(fault: &str) -> Self {
        Self {
            next: Some(String::new()),
            ..Self::alone(fault)
        }
    }

    /// A route of one target, at fault.
    pub fn alone(fault: &str) -> Self {
        Self {
            fault: fault.to_owned(),
            next: None,
            settings: Vec::new(),
            providers: Vec::new(),
            route: Vec::new(),
            first_target: Vec::new(),
            next_target: Vec::new(),
            limit: Duration::from_secs(8),
            restarts: false,
        }
    }

    /// How the other target behaves.
    pub fn next(mut self, behaviour: &str) -> Self {
        self.next = Some(behaviour.to_owned());
        self
    }

    /// A setting of the daemon.
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        self.settings.push((path.to_owned(), value.into()));
        self
    }

    /// A setting of every provider.
    pub fn providers(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.providers.push((key.to_owned(), value.into()));
        self
    }

    /// A setting of every route.
    pub fn route(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.route.push((key.to_owned(), value.into()));
        self
    }

    /// A stream that is cut is tried anew elsewhere.
    pub fn restarts(mut self) -> Self {
        self.restarts = true;
        self.route("on_cut", "restart")
    }

    /// How long a context the targets take.
    pub fn contexts(mut self, first: Option<u64>, next: Option<u64>) -> Self {
        let member = |tokens: u64| ("context_tokens".to_owned(), Value::from(tokens));
        self.first_target.extend(first.map(member));
        self.next_target.extend(next.map(member));
        self
    }

    /// By when every caller must have its whole answer.
    pub fn within(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// Both orders of the dialects, one dialect alone, and a caller who is a stranger to the
    /// preferred target; each plain and streamed.
    fn rows(&self) -> Vec<Row> {
        use Dialect::{Anthropic, Openai};
        let pairs: &[(Dialect, Dialect, Option<Dialect>)] = match self.next {
            Some(_) => &[
                (Openai, Openai, Some(Anthropic)),
                (Anthropic, Anthropic, Some(Openai)),
                (Openai, Openai, Some(Openai)),
                (Anthropic, Openai, Some(Anthropic)),
            ],
            None => &[
                (Openai, Openai, None),
                (Anthropic, Anthropic, None),
                (Openai, Anthropic, None),
            ],
        };
        let both = pairs.iter().flat_map(|&(caller, first, next)| {
            [false, true].map(|stream| Row {
                caller,
                first,
                next,
                stream,
            })
        });
        both.collect()
    }

    /// The model of a row's target. The latency only makes the name unique: the simulator's
    /// memory of `-once` and the daemon's breakers go by name.
    fn model(behaviour: &str, latency: usize) -> String {
        let paced = if behaviour.contains("pace-") {
            String::new()
        } else {
            format!("+pace-1x{WORDS}")
        };
        let parts = behaviour.split('+').filter(|part| !part.is_empty());
        let parts: String = parts.map(|part| format!("+{part}")).collect();
        format!("sim{paced}{parts}+latency-{latency}")
    }

    fn models(&self, index: usize) -> (String, Option<String>) {
        let next = self.next.as_deref();
        (
            Self::model(&self.fault, index),
            next.map(|next| Self::model(next, 10 + index)),
        )
    }

    fn config(&self, addr: SocketAddr, rows: &[Row]) -> Config {
        let mut config = Config::behind(addr);
        for (path, value) in &self.settings {
            config = config.set(path, value.clone());
        }
        let with = |mut value: Value, more: &[(String, Value)]| -> Value {
            for (key, member) in more {
                value[key] = member.clone();
            }
            value
        };
        for (index, row) in rows.iter().enumerate() {
            let (first, next) = self.models(index);
            let target = |name: String, model: String| json!({"provider": name, "model": model});
            let mut targets = vec![with(
                target(format!("first{index}"), first),
                &self.first_target,
            )];
            let mut kinds = vec![(format!("first{index}"), row.first)];
            if let (Some(model), Some(kind)) = (next, row.next) {
                let name = format!("next{index}");
                targets.push(with(target(name.clone(), model), &self.next_target));
                kinds.push((name, kind));
            }
            for (name, kind) in kinds {
                let provider = json!({
                    "kind": kind.kind(),
                    "base_url": base_url(kind, addr),
                    "api_key": "sk-upstream-scene-4713",
                });
                config = config.set(
                    &format!("providers.{name}"),
                    with(provider, &self.providers),
                );
            }
            // The short form where it can say all.
            let route = if self.route.is_empty() {
                Value::from(targets)
            } else {
                with(json!({"targets": targets}), &self.route)
            };
            config = config.set(&format!("models.best{index}"), route);
        }
        config
    }

    /// Plays it, checks what holds for every fault, and hands each row to `check`.
    pub fn run(self, check: impl Fn(&Seen)) {
        let _turn = machine::light();
        let simulator = Simulator::start();
        let rows = self.rows();
        let mut daemon = Daemon::with(&self.config(simulator.addr, &rows));
        let whole = whole_text(&simulator);
        // Beyond the limit, so that what comes late is told from what never comes.
        let patience = self.limit + Duration::from_secs(5);
        let heard: Vec<Heard> = std::thread::scope(|scope| {
            let api = daemon.api;
            let callers: Vec<_> = rows
                .iter()
                .enumerate()
                .map(|(index, row)| {
                    let body = caller::body(&format!("best{index}"), row.stream);
                    scope.spawn(move || caller::call(api, row.caller, &body, patience))
                })
                .collect();
            let heard = callers
                .into_iter()
                .map(|caller| caller.join().expect("it listened"));
            heard.collect()
        });
        let calls = simulator.calls();
        let of = |model: Option<String>| -> Vec<Call> {
            let ours = |call: &&Call| Some(&call.model) == model.as_ref();
            calls.iter().filter(ours).cloned().collect()
        };
        for (index, (row, heard)) in rows.into_iter().zip(heard).enumerate() {
            let (first, next) = self.models(index);
            let seen = Seen {
                row,
                heard,
                first: of(Some(first)),
                next: of(next),
                first_name: format!("first{index}"),
                next_name: format!("next{index}"),
                whole: whole.clone(),
            };
            seen.check_bounds(self.limit);
            if !self.restarts {
                let asked = seen.first.len() + seen.next.len();
                assert_eq!(seen.heard.attempts(), asked, "x-victor-attempts: {seen}");
            }
            check(&seen);
        }
        daemon.assert_well();
    }
}

impl Seen {
    /// What holds whatever the fault: an end in time, and no more requests than are allowed.
    fn check_bounds(&self, limit: Duration) {
        assert!(self.heard.took <= limit, "later than {limit:?}: {self}");
        for calls in [&self.first, &self.next] {
            assert!(calls.len() <= ATTEMPTS_MAX, "too many attempts: {self}");
            let limited = calls.iter().any(|call| call.status == Some(429));
            for three in calls.windows(3).filter(|_| limited) {
                let gap = three[2].at.saturating_sub(three[0].at);
                assert!(gap + CLOCK_SLACK > HAMMERING, "hammering: {self}");
            }
        }
    }

    /// Checks that the whole answer came, by the preferred target after `attempts` of them.
    pub fn whole_by_first(&self, attempts: RangeInclusive<usize>) {
        self.heard.assert_whole(&self.whole, self);
        self.check_names(&self.first_name);
        assert!(attempts.contains(&self.first.len()), "{self}");
        assert!(self.next.is_empty(), "the other was asked: {self}");
    }

    /// Checks that the whole answer came, by the other target and at once there, after `attempts`
    /// of the preferred one.
    pub fn whole_by_next(&self, attempts: RangeInclusive<usize>) {
        self.heard.assert_whole(&self.whole, self);
        self.check_names(&self.next_name);
        assert!(attempts.contains(&self.first.len()), "{self}");
        assert_eq!(self.next.len(), 1, "{self}");
        assert!(self.next[0].at >= self.first[0].at, "order: {self}");
    }

    /// Checks that a stream broke off after `words` and says so, and nobody else was asked.
    pub fn broken_off(&self, words: usize) {
        self.heard.assert_broken_off(&self.whole, self);
        assert_eq!(self.heard.words(), words, "{self}");
        assert_eq!((self.first.len(), self.next.len()), (1, 0), "{self}");
    }

    /// Checks that the call was refused for a reason that holds one of `reasons`, after `attempts`
    /// of the preferred target and none of the other.
    pub fn refused(&self, statuses: &[u16], reasons: &[&str], attempts: RangeInclusive<usize>) {
        let heard = &self.heard;
        heard.assert_refused(self.row.caller, statuses, reasons, self);
        assert!(attempts.contains(&self.first.len()), "{self}");
        assert!(self.next.is_empty(), "the other was asked: {self}");
    }

    /// Checks that any two requests at the preferred target were `gap` apart at least.
    pub fn apart(&self, gap: Duration) {
        for two in self.first.windows(2) {
            let between = two[1].at.saturating_sub(two[0].at);
            assert!(between + CLOCK_SLACK >= gap, "closer than {gap:?}: {self}");
        }
    }

    fn check_names(&self, provider: &str) {
        assert_eq!(
            self.heard.header("x-victor-provider"),
            Some(provider),
            "{self}"
        );
        let calls = if provider == self.first_name {
            &self.first
        } else {
            &self.next
        };
        let model = calls.last().map(|call| call.model.as_str());
        assert_eq!(self.heard.header("x-victor-model"), model, "{self}");
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}\n  heard {}", self.row, self.heard)?;
        for (name, calls) in [("first", &self.first), ("next", &self.next)] {
            for call in calls {
                writeln!(
                    f,
                    "  {name} saw {} at {:?}, answered {:?}",
                    call.model, call.at, call.status
                )?;
            }
        }
        Ok(())
    }
}
