//! The behaviours that a caller chooses by model name (`sim+latency-200+status-503`) or by the
//! header `x-sim`. Pure: text in, values out. [`CATALOGUE`] is the list that operators see.

use std::time::Duration;

/// Longest delay that can be asked for.
const DELAY_MAX_MS: u32 = 86_400_000;
/// Most tokens that an answer can be asked to have.
pub const TOKENS_MAX: u32 = 1_000_000;

/// Most tool calls that one answer can be asked to have.
const CALLS_MAX: u32 = 64;

/// Every behaviour: its form, an example that is a model id, and what it does.
pub const CATALOGUE: [(&str, &str, &str); 25] = [
    ("", "sim", "answers at once and unpaced"),
    (
        "latency-N",
        "sim+latency-200",
        "waits N ms before the head of the answer",
    ),
    (
        "pace-MxN",
        "sim+pace-20x64",
        "N tokens, M ms apart when streamed",
    ),
    (
        "status-N",
        "sim+status-503",
        "answers with that error status",
    ),
    (
        "retry-after-N",
        "sim+status-429-once+retry-after-2",
        "adds retry-after: N to an error",
    ),
    (
        "reset",
        "sim+reset",
        "resets the connection before the head",
    ),
    (
        "silent",
        "sim+silent",
        "accepts the request and never answers",
    ),
    (
        "first-token-N",
        "sim+first-token-20000",
        "streams its head at once, its first event after N ms",
    ),
    ("cut-N", "sim+cut-40", "cuts the connection after N tokens"),
    (
        "stall-N",
        "sim+stall-20",
        "stops after N tokens and holds the connection",
    ),
    (
        "malformed-N",
        "sim+malformed-10",
        "the Nth event is broken JSON",
    ),
    (
        "no-end",
        "sim+no-end",
        "closes cleanly without the end marker",
    ),
    (
        "context-length",
        "sim+context-length",
        "the vendor's error for too long a prompt",
    ),
    (
        "content-filter",
        "sim+content-filter",
        "the vendor's error for filtered content",
    ),
    (
        "flap-N",
        "sim+flap-60",
        "503 for N s from the first request since the last reset, then up",
    ),
    (
        "no-prefill",
        "sim+no-prefill",
        "400 if the last message is the assistant's",
    ),
    (
        "tools",
        "sim+tools",
        "calls the first tool that the request offers",
    ),
    (
        "tools-N",
        "sim+tools-2",
        "calls the first N tools, starting again at the first; one if parallel calls are forbidden",
    ),
    (
        "interleave",
        "sim+tools-2+interleave",
        "the fragments of several tool calls alternate (chat completions, streamed)",
    ),
    (
        "thinking",
        "sim+thinking",
        "thinks before it answers: a reasoning part, counted in the usage",
    ),
    (
        "cached-N",
        "sim+cached-100",
        "N more tokens of the prompt, which came from the provider's cache",
    ),
    (
        "refusal",
        "sim+refusal",
        "the model refuses, in the vendor's form",
    ),
    (
        "poison",
        "sim+poison",
        "400 for embeddings if one of the texts contains the word poison",
    ),
    (
        "strict",
        "sim+strict",
        "checks the request as the vendor does: 400 with the path of the first fault",
    ),
    (
        "status-N-once",
        "sim+status-429-once",
        "a behaviour with -once is for the first request only",
    ),
];

/// Everything that one request is to meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviours {
    /// Before the head of the answer.
    pub latency: Duration,
    /// Between tokens of a stream, and how many tokens there are.
    pub pace: Option<Pace>,
    /// Answer with this error status.
    pub status: Option<u16>,
    /// Seconds for `retry-after` on an error.
    pub retry_after: Option<u32>,
    /// Reset the connection.
    pub reset: bool,
    /// Never answer.
    pub silent: bool,
    /// Between the head and the first event.
    pub first_token: Duration,
    /// Cut after so many tokens.
    pub cut: Option<u32>,
    /// Stall after so many tokens.
    pub stall: Option<u32>,
    /// The event (from 1) that is broken.
    pub malformed: Option<u32>,
    /// Leave the end marker out.
    pub no_end: bool,
    /// The vendor's error for too long a prompt.
    pub context_length: bool,
    /// The vendor's error for filtered content.
    pub content_filter: bool,
    /// Down for this time from the first request.
    pub flap: Option<Duration>,
    /// Refuse a conversation that ends with the assistant.
    pub no_prefill: bool,
    /// How many tools to call if any are offered.
    pub tools: u32,
    /// Let the fragments of several tool calls alternate.
    pub interleave: bool,
    /// Think before answering.
    pub thinking: bool,
    /// Tokens of the prompt that came from the provider's cache.
    pub cached: u32,
    /// Refuse to answer.
    pub refusal: bool,
    /// Refuse embeddings of a text with the word poison.
    pub poison: bool,
    /// Check the request as the vendor does.
    pub strict: bool,
}

/// How fast and how long a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two tokens.
    pub gap: Duration,
    /// How many.
    pub tokens: u32,
}

/// A model name and header read: what the first request meets, and what later ones do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// With the behaviours that carry `-once`.
    pub first: Behaviours,
    /// Without them; `None` when no behaviour carries `-once`.
    pub later: Option<Behaviours>,
}

/// What could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The model is none of the simulator's, and no header said how to behave.
    Model,
    /// One part of the name or header is no behaviour.
    Part(String),
}

impl Unknown {
    /// What was wrong, with near matches, to stand after "The model `x` does not exist".
    pub fn explain(&self) -> String {
        match self {
            Self::Model => "; the simulator's models are named sim+behaviour, for example sim or \
                 sim+latency-200 (GET /v1/models lists them)"
                .to_owned(),
            Self::Part(part) => {
                let near = near_matches(part).join(", ");
                format!(
                    "; `{part}` is no behaviour of the simulator, did you mean {near}? (GET /v1/models lists them)"
                )
            }
        }
    }
}

/// Up to five forms of behaviours, the most similar first.
fn near_matches(part: &str) -> Vec<&'static str> {
    // Numbers say nothing about which word was meant, and a long part would cost a long search.
    let word = |text: &str| -> String {
        let letters = text.chars().filter(|c| c.is_ascii_lowercase() || *c == '-');
        letters
            .take(32)
            .collect::<String>()
            .trim_matches('-')
            .to_owned()
    };
    let asked = word(&part.to_ascii_lowercase());
    let mut ranked: Vec<_> = CATALOGUE
        .iter()
        .filter(|(form, _, _)| !form.is_empty())
        .map(|(form, _, _)| (strsim::jaro_winkler(&asked, &word(form)), *form))
        .collect();
    ranked.sort_by(|one, other| other.0.total_cmp(&one.0));
    let best = ranked.first().map_or(0.0, |(score, _)| *score);
    let near = ranked.iter().filter(|(score, _)| *score > best - 0.15);
    near.take(5).map(|(_, form)| *form).collect()
}

impl Spec {
    /// Reads a model name and the header `x-sim`. With the header any model name will do, since
    /// the header has said how to behave; without it the name must be one of the simulator's.
    ///
    /// # Errors
    /// [`Unknown`], for a part that is no behaviour or a value out of bounds.
    pub fn parse(model: Option<&str>, header: Option<&str>) -> Result<Self, Unknown> {
        let mut spec = Self::default();
        let mut once = Vec::new();
        if let Some(model) = model {
            match (model.strip_prefix("sim"), header) {
                (Some(""), _) => {}
                (Some(rest), _) if rest.starts_with('+') => spec.add(&rest[1..], &mut once)?,
                (_, Some(_)) => {}
                (_, None) => return Err(Unknown::Model),
            }
        }
        if let Some(header) = header {
            let parts = header.trim();
            let parts = parts.strip_prefix("sim+").unwrap_or(parts);
            if parts != "sim" && !parts.is_empty() {
                spec.add(parts, &mut once)?;
            }
        }
        if !once.is_empty() {
            spec.later = Some(spec.first.clone());
            for part in once {
                // It was applied above, so it is known.
                let _ = apply(&mut spec.first, &part);
            }
        }
        Ok(spec)
    }

    fn add(&mut self, parts: &str, once: &mut Vec<String>) -> Result<(), Unknown> {
        for part in parts.split('+').map(str::trim) {
            let unknown = || Unknown::Part(part.chars().take(64).collect());
            match part.strip_suffix("-once") {
                Some(part) => {
                    apply(&mut Behaviours::default(), part).ok_or_else(unknown)?;
                    once.push(part.to_owned());
                }
                None => apply(&mut self.first, part).ok_or_else(unknown)?,
            }
        }
        Ok(())
    }

    /// Whether the behaviour depends on what was asked before.
    pub fn has_state(&self) -> bool {
        self.later.is_some() || self.first.flap.is_some()
    }
}

/// Adds one behaviour. `None` if there is none of that name, or its number is out of bounds.
fn apply(to: &mut Behaviours, part: &str) -> Option<()> {
    match part {
        "reset" => to.reset = true,
        "silent" => to.silent = true,
        "no-end" => to.no_end = true,
        "context-length" => to.context_length = true,
        "content-filter" => to.content_filter = true,
        "no-prefill" => to.no_prefill = true,
        "tools" => to.tools = 1,
        "interleave" => to.interleave = true,
        "thinking" => to.thinking = true,
        "refusal" => to.refusal = true,
        "poison" => to.poison = true,
        "strict" => to.strict = true,
        _ => {
            let (name, value) = part.rsplit_once('-')?;
            match name {
                "latency" => to.latency = delay(value)?,
                "first-token" => to.first_token = delay(value)?,
                "pace" => to.pace = Some(pace(value)?),
                "status" => to.status = Some(number(value, 599).filter(|n| *n >= 400)? as u16),
                "retry-after" => to.retry_after = Some(number(value, 86_400)?),
                "cut" => to.cut = Some(number(value, TOKENS_MAX)?),
                "stall" => to.stall = Some(number(value, TOKENS_MAX)?),
                "tools" => to.tools = number(value, CALLS_MAX).filter(|n| *n > 0)?,
                "cached" => to.cached = number(value, TOKENS_MAX)?,
                "malformed" => to.malformed = Some(number(value, TOKENS_MAX).filter(|n| *n > 0)?),
                "flap" => to.flap = Some(Duration::from_secs(number(value, 86_400)?.into())),
                _ => return None,
            }
        }
    }
    Some(())
}

fn number(digits: &str, max: u32) -> Option<u32> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| plain && *number <= max)
}

fn delay(digits: &str) -> Option<Duration> {
    number(digits, DELAY_MAX_MS).map(|ms| Duration::from_millis(ms.into()))
}

fn pace(value: &str) -> Option<Pace> {
    let (gap, tokens) = value.split_once('x')?;
    Some(Pace {
        gap: delay(gap)?,
        tokens: number(tokens, TOKENS_MAX).filter(|tokens| *tokens > 0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(model: &str, header: Option<&str>) -> Behaviours {
        Spec::parse(Some(model), header).unwrap().first
    }

    #[test]
    fn behaviours_combine_from_name_and_header() {
        let expected = Behaviours {
            latency: Duration::from_millis(200),
            status: Some(503),
            retry_after: Some(2),
            ..Behaviours::default()
        };
        for (model, header) in [
            ("sim+latency-200+status-503+retry-after-2", None),
            ("sim", Some("latency-200+status-503+retry-after-2")),
            ("sim+latency-200", Some("sim+status-503 + retry-after-2")),
            ("anything", Some("latency-200+status-503+retry-after-2")),
        ] {
            assert_eq!(first(model, header), expected, "{model} {header:?}");
        }
        assert_eq!(first("sim", None), Behaviours::default());
        assert_eq!(first("gpt-4o", Some("sim")), Behaviours::default());
    }

    #[test]
    fn every_example_of_the_catalogue_is_read() {
        for (_, example, _) in CATALOGUE {
            assert!(Spec::parse(Some(example), None).is_ok(), "{example}");
        }
    }

    #[test]
    fn once_is_for_the_first_request_only() {
        let spec = Spec::parse(Some("sim+latency-5+status-429-once"), None).unwrap();
        assert_eq!(spec.first.status, Some(429));
        let later = spec.later.unwrap();
        assert_eq!(
            (later.status, later.latency),
            (None, Duration::from_millis(5))
        );
        let spec = Spec::parse(Some("sim+status-500"), Some("reset-once")).unwrap();
        assert!(spec.first.reset && spec.later.is_some_and(|later| later.status == Some(500)));
    }

    #[test]
    fn what_is_unknown_is_named_with_near_matches() {
        let check = |model: &str, part: &str, near: &str| {
            let unknown = Spec::parse(Some(model), None).unwrap_err();
            assert_eq!(unknown, Unknown::Part(part.to_owned()));
            assert!(unknown.explain().contains(near), "{}", unknown.explain());
        };
        check("sim+latnecy-200", "latnecy-200", "latency-N");
        check("sim+latency", "latency", "latency-N");
        check("sim+status-200", "status-200", "status-N");
        check("sim+pace-20", "pace-20", "pace-MxN");
        check("sim+cut-+4", "cut-", "cut-N");
        check("sim+tools-0", "tools-0", "tools-N");
        check("sim+malformed-0", "malformed-0", "malformed-N");
        check("sim+frist-token-5", "frist-token-5", "first-token-N");
        check("sim+", "", "mean");
        assert_eq!(Spec::parse(Some("gpt-4o"), None), Err(Unknown::Model));
        assert_eq!(Spec::parse(Some("simple"), None), Err(Unknown::Model));
    }
}
