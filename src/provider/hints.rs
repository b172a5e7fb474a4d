//! What a provider's headers say about its limits.
//!
//! Two vendors, two spellings. OpenAI: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`,
//! resets as durations like `1s`, `6m0s`, `120ms` (platform.openai.com, "Rate limits in headers").
//! Anthropic: `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,
//! reset}`, resets as RFC 3339 times (docs.anthropic.com, "Rate limits: response headers"). Both:
//! `retry-after` (RFC 9110, 10.2.3: seconds or a date), `retry-after-ms`. Pure: the wall clock is
//! an argument. Strangers write these: what cannot be read is ignored, what is absurd is bounded.
//! Start at [`parse`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest `retry-after` that is believed; a longer one is taken for this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// The longest time to a reset that is believed. Longer ones (quotas of a day) are real, but
/// nobody waits for them: they are asked about again after this.
pub const RESET_MAX: Duration = Duration::from_secs(60);
/// Bytes of a header's value that are looked at; all real ones are shorter.
const VALUE_BYTES_MAX: usize = 64;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    Requests,
    Tokens,
    InputTokens,
    OutputTokens,
}

impl Dimension {
    pub const ALL: [Self; 4] = [
        Self::Requests,
        Self::Tokens,
        Self::InputTokens,
        Self::OutputTokens,
    ];

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "requests" => Self::Requests,
            "tokens" => Self::Tokens,
            "input-tokens" => Self::InputTokens,
            "output-tokens" => Self::OutputTokens,
            _ => return None,
        })
    }
}

/// What is left of one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The whole of it, where the provider says so; at least 1.
    pub limit: Option<u64>,
    pub remaining: u64,
    /// From the answer to the time when the whole is there again; at most [`RESET_MAX`].
    pub reset: Duration,
}

/// What an answer's headers say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// By [`Dimension`].
    pub quotas: [Option<Quota>; Dimension::ALL.len()],
    /// At most [`RETRY_AFTER_MAX`].
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Default)]
struct Partial {
    limit: Option<u64>,
    remaining: Option<u64>,
    reset: Option<Duration>,
}

/// Reads an answer's headers; names in lower case, `wall` the time at which they came. A header
/// that comes twice counts as it came last.
pub fn parse<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>, wall: SystemTime) -> Hints {
    let mut partial = [Partial::default(); Dimension::ALL.len()];
    let (mut after, mut after_ms) = (None, None);
    for (name, value) in headers {
        let value = value.trim();
        if value.len() > VALUE_BYTES_MAX {
            continue;
        }
        match name {
            "retry-after" => after = retry_after(value, wall).or(after),
            "retry-after-ms" => after_ms = millis(value).or(after_ms),
            _ => {
                if let Some((dimension, what)) = quota_header(name) {
                    read_quota(&mut partial[dimension as usize], what, value, wall);
                }
            }
        }
    }
    let whole = |it: Partial| {
        Some(Quota {
            limit: it.limit.filter(|limit| *limit > 0),
            remaining: it.remaining?,
            reset: it.reset?.min(RESET_MAX),
        })
    };
    Hints {
        quotas: partial.map(whole),
        // The finer one says the same more exactly.
        retry_after: after_ms.or(after).map(|it| it.min(RETRY_AFTER_MAX)),
    }
}

/// Which dimension a header is about, and whether it is its limit, what remains or the reset.
fn quota_header(name: &str) -> Option<(Dimension, &str)> {
    if let Some(rest) = name.strip_prefix("x-ratelimit-") {
        let (what, dimension) = rest.split_once('-')?;
        return Some((Dimension::named(dimension)?, what));
    }
    let rest = name.strip_prefix("anthropic-ratelimit-")?;
    let (dimension, what) = rest.rsplit_once('-')?;
    Some((Dimension::named(dimension)?, what))
}

fn read_quota(partial: &mut Partial, what: &str, value: &str, wall: SystemTime) {
    match what {
        "limit" => partial.limit = value.parse().ok().or(partial.limit),
        "remaining" => partial.remaining = value.parse().ok().or(partial.remaining),
        "reset" => {
            let time = rfc3339(value).map(|at| at.duration_since(wall).unwrap_or_default());
            partial.reset = time.or_else(|| duration(value)).or(partial.reset);
        }
        _ => {}
    }
}

/// `retry-after`: seconds, in practice with a fraction too, or a date, which may have passed.
fn retry_after(value: &str, wall: SystemTime) -> Option<Duration> {
    if let Some(seconds) = decimal(value) {
        return bounded(seconds);
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(wall).unwrap_or_default())
}

fn millis(value: &str) -> Option<Duration> {
    bounded(decimal(value)? / 1000.0)
}

/// Seconds that may be absurdly many as a duration.
fn bounded(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.min(1e9)).ok()
}

/// Digits with at most one dot; neither sign nor exponent nor `inf`.
fn decimal(value: &str) -> Option<f64> {
    let plain = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    value.bytes().all(plain).then(|| value.parse().ok())?
}

/// Go's durations, which OpenAI sends: numbers with units, largest first (`1h2m3.5s`, `120ms`).
fn duration(value: &str) -> Option<Duration> {
    let mut rest = value;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let number = decimal(&rest[..digits])?;
        rest = &rest[digits..];
        let unit = rest.find(|it: char| it.is_ascii_digit());
        let (unit, after) = rest.split_at(unit.unwrap_or(rest.len()));
        rest = after;
        seconds += number
            * match unit {
                "d" => 86_400.0,
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
    }
    (!value.is_empty()).then(|| bounded(seconds))?
}

/// `2026-03-01T12:00:00Z`, with or without a fraction, with `Z` or an offset (RFC 3339, 5.6).
fn rfc3339(value: &str) -> Option<SystemTime> {
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = value.get(from..to)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok())?
    };
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    let bytes = value.as_bytes();
    let shaped = separators.iter().all(|(at, is)| bytes.get(*at) == Some(is))
        && matches!(bytes.get(10), Some(b'T' | b't' | b' '));
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let sane = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !shaped || !sane {
        return None;
    }
    let mut rest = value.get(19..)?;
    let mut fraction = Duration::ZERO;
    if let Some(after) = rest.strip_prefix('.') {
        let end = after.find(|it: char| !it.is_ascii_digit())?;
        fraction = bounded(decimal(&rest[..=end])?)?;
        rest = &after[end..];
    }
    let offset = offset_seconds(rest)?;
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = seconds.checked_add_signed(-offset)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds) + fraction)
}

/// `Z`, `+02:00` or `-05:30` in seconds.
fn offset_seconds(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60)
        .then_some(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

/// Days since 1970-01-01 of a day from then on (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms"); the other way round of what [`crate::clock`] does.
const fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-03-01T12:00:00Z
    const WALL_SECONDS: u64 = 1_772_366_400;

    fn parsed(headers: &[(&str, &str)]) -> Hints {
        let wall = UNIX_EPOCH + Duration::from_secs(WALL_SECONDS);
        parse(headers.iter().copied(), wall)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn openai_counts_in_durations() {
        let hints = parsed(&[
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-limit-tokens", "150000"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-tokens", "6ms"),
        ]);
        let quota = |limit, remaining, reset| {
            Some(Quota {
                limit: Some(limit),
                remaining,
                reset,
            })
        };
        assert_eq!(hints.quotas[0], quota(60, 59, ms(1000)));
        assert_eq!(hints.quotas[1], quota(150_000, 149_984, ms(6)));
        assert_eq!(hints.quotas[2..], [None, None]);
    }

    #[test]
    fn anthropic_counts_in_times() {
        let hints = parsed(&[
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-ratelimit-requests-reset", "2026-03-01T12:00:07Z"),
            ("anthropic-ratelimit-output-tokens-remaining", "8000"),
            (
                "anthropic-ratelimit-output-tokens-reset",
                "2026-03-01T13:59:58.250+02:00",
            ),
            ("anthropic-ratelimit-input-tokens-remaining", "8000"),
            ("retry-after", "7"),
        ]);
        let requests = hints.quotas[Dimension::Requests as usize].unwrap();
        assert_eq!((requests.remaining, requests.reset), (0, ms(7000)));
        let output = hints.quotas[Dimension::OutputTokens as usize].unwrap();
        assert_eq!((output.limit, output.reset), (None, ms(0)), "it has passed");
        assert_eq!(
            hints.quotas[Dimension::InputTokens as usize],
            None,
            "no reset"
        );
        assert_eq!(hints.retry_after, Some(ms(7000)));
    }

    #[test]
    fn durations_are_those_of_go() {
        let check = |text, expected| assert_eq!(duration(text), expected, "{text}");
        check("1s", Some(ms(1000)));
        check("6m0s", Some(ms(360_000)));
        check("1h2m3.5s", Some(ms(3_723_500)));
        check("120ms", Some(ms(120)));
        check("0s", Some(ms(0)));
        for faulty in [
            "", "s", "1", "-1s", "1x", "1s2", "1e9s", "1..2s", "infs", "NaNs",
        ] {
            check(faulty, None);
        }
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        let check = |text: &str, expected: Option<u64>| {
            let since = rfc3339(text).map(|at| at.duration_since(UNIX_EPOCH).unwrap());
            assert_eq!(since, expected.map(ms), "{text}");
        };
        check("1970-01-01T00:00:00Z", Some(0));
        check("2026-03-01T12:00:00Z", Some(WALL_SECONDS * 1000));
        check("2026-03-01t12:00:00.25z", Some(WALL_SECONDS * 1000 + 250));
        check("2026-03-01T06:30:00-05:30", Some(WALL_SECONDS * 1000));
        check("2024-02-29T23:59:59.001Z", Some(1_709_251_199_001));
        for faulty in [
            "",
            "2026-03-01",
            "2026-13-01T12:00:00Z",
            "2026-03-01T12:00:00",
            "2026-03-01T12:00:00.Zx",
            "1969-03-01T12:00:00Z",
            "2026-03-01T12:00:00+99:00",
            "1970-01-01T00:00:00+01:00",
            "2026-03-01T1\u{e9}:00:00Z",
        ] {
            check(faulty, None);
        }
    }

    #[test]
    fn patience_is_read_in_every_spelling_and_bounded() {
        let check = |headers: &[(&str, &str)], expected: Option<u64>| {
            assert_eq!(parsed(headers).retry_after, expected.map(ms), "{headers:?}");
        };
        check(&[("retry-after", "2")], Some(2000));
        check(&[("retry-after", " 0.5 ")], Some(500));
        check(
            &[("retry-after", "Sun, 01 Mar 2026 12:00:03 GMT")],
            Some(3000),
        );
        check(&[("retry-after", "Sun, 01 Mar 2026 11:00:00 GMT")], Some(0));
        check(
            &[("retry-after", "1"), ("retry-after-ms", "1500")],
            Some(1500),
        );
        let digits = "9".repeat(60);
        check(&[("retry-after", &digits)], Some(3_600_000));
        check(&[("retry-after", &"9".repeat(400))], None);
        for faulty in ["-1", "soon", "1e3", "inf", "NaN", "", "."] {
            check(&[("retry-after", faulty)], None);
        }
    }

    #[test]
    fn a_reset_in_a_day_is_asked_about_again_before() {
        let hints = parsed(&[
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "23h59m0s"),
            ("x-ratelimit-limit-requests", "0"),
        ]);
        let quota = hints.quotas[0].unwrap();
        assert_eq!((quota.reset, quota.limit), (RESET_MAX, None));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_bounded_and_no_panic(name in "(x-ratelimit-(remaining|reset|limit)-(requests|tokens)|anthropic-ratelimit-(input-)?tokens-(remaining|reset)|retry-after(-ms)?)", value in "\\PC{0,70}|[0-9T:Zdhms.+-]{0,40}") {
            let hints = parsed(&[(&name, &value), ("x-ratelimit-remaining-requests", "1"), ("x-ratelimit-reset-requests", &value)]);
            prop_assert!(hints.retry_after.is_none_or(|it| it <= RETRY_AFTER_MAX));
            prop_assert!(hints.quotas.iter().flatten().all(|it| it.reset <= RESET_MAX));
        }

        #[test]
        fn a_time_that_is_written_is_read(seconds in 0_u64..253_402_300_800) {
            let at = UNIX_EPOCH + Duration::from_secs(seconds);
            let text = crate::clock::Utc::at(at).rfc3339_seconds();
            prop_assert_eq!(rfc3339(&text), Some(at));
        }
    }
}
