//! `cache.redis`: where answers are shared with other instances.
//!
//! Its URL may hold a password, so no fault here shows any of it.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::super::checked::{Secret, SharedCache};
use super::super::raw::{Map, Raw};
use super::super::scalar::{Bounds, Unit, Wrong};

/// Where Redis and Valkey listen unless told otherwise.
const PORT: u16 = 6379;
/// Of a host's name (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 255;
/// It is part of every key.
const PREFIX_BYTES_MAX: usize = 64;

const URL: &str = "redis://[[user]:password@]host[:port][/db]";

/// Reads `redis` within `cache`; `None` if it is off or has a fault.
pub(super) fn redis(raw: &mut Raw<'_>, cache: &mut Map<'_>) -> Option<SharedCache> {
    let written = cache.has("redis");
    let mut map = raw.map(cache, "redis");
    let has_url = map.has("url") || map.broken;
    let url = raw.field(&mut map, "url").and_then(|field| {
        let url = raw.secret(&field).ok()??;
        match parse(url.expose()) {
            Ok(url) => Some(url),
            Err(message) => {
                raw.fault(&field.place, Wrong::new(message), URL);
                None
            }
        }
    });
    let time = Bounds::count(1, 10_000).of(Unit::Milliseconds);
    let timeout = raw.duration(&mut map, "timeout_ms", Duration::from_millis(20), time);
    let key_prefix = prefix(raw, &mut map);
    let connections = raw.count(&mut map, "max_connections", 4, Bounds::count(2, 256));
    raw.close(map);
    if written && !has_url {
        raw.warnings
            .push("cache.redis has no `url`: nothing is shared with other instances".to_owned());
    }
    let url = url?;
    Some(SharedCache {
        host: url.host,
        port: url.port,
        db: url.db,
        user: url.user,
        password: url.password,
        timeout,
        key_prefix,
        max_connections: NonZeroUsize::new(connections)?,
    })
}

fn prefix(raw: &mut Raw<'_>, map: &mut Map<'_>) -> String {
    let expected = "1 to 64 printable ASCII characters without blanks";
    let Some((text, place)) = raw.text(map, "key_prefix", expected) else {
        return "victor:".to_owned();
    };
    let sound = (1..=PREFIX_BYTES_MAX).contains(&text.len());
    if !sound || !text.bytes().all(|b| b.is_ascii_graphic()) {
        raw.fault(&place, Wrong::new("cannot begin a key"), expected);
    }
    text
}

/// The parts of a URL.
#[derive(Debug, PartialEq)]
struct Url {
    host: String,
    port: u16,
    db: u32,
    user: Option<String>,
    password: Option<Secret>,
}

/// Takes a URL apart, as the clients of Redis read it.
///
/// # Errors
/// What is wrong, without any part of the URL.
fn parse(text: &str) -> Result<Url, &'static str> {
    if text.starts_with("rediss:") || text.starts_with("valkeys:") {
        return Err("TLS is not spoken here: a tunnel can speak it for this process");
    }
    let rest = ["redis://", "valkey://"]
        .into_iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .ok_or("the URL does not begin with redis://")?;
    // A password may be written with a slash in it, a host may not.
    let (userinfo, rest) = match rest.rsplit_once('@') {
        Some((userinfo, rest)) => (Some(userinfo), rest),
        None => (None, rest),
    };
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = host_and_port(place)?;
    let db = match path {
        "" => 0,
        digits if digits.len() <= 6 && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().unwrap_or(0)
        }
        _ => return Err("the URL's path is not the number of a database"),
    };
    let (user, password) = match userinfo {
        None => (None, None),
        Some(userinfo) => {
            let (user, password) = userinfo
                .split_once(':')
                .ok_or("the URL has a user without a password")?;
            (Some(decode(user)?), Some(decode(password)?))
        }
    };
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (user, password) = (some(user), some(password).map(Secret::new));
    if user.is_some() && password.is_none() {
        return Err("the URL has a user without a password");
    }
    Ok(Url {
        host,
        port,
        db,
        user,
        password,
    })
}

fn host_and_port(place: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("the URL's host has no `]`")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("the URL's host in brackets is no address");
            }
            (host, port)
        }
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => PORT,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or("the URL's port is not from 1 to 65535")?,
        _ => return Err("the URL's port is not from 1 to 65535"),
    };
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(fits) {
        return Err("the URL has no host that can be looked up");
    }
    Ok((host.to_owned(), port))
}

/// Decodes `%41` (RFC 3986, section 2.1).
fn decode(text: &str) -> Result<String, &'static str> {
    let wrong = "the URL has a `%` that is not followed by two hexadecimal digits";
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = char::from(bytes.next()?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        match (digit(), digit()) {
            (Some(high), Some(low)) => out.push(high << 4 | low),
            _ => return Err(wrong),
        }
    }
    String::from_utf8(out).map_err(|_| "the URL's user or password is not UTF-8")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{CheckedConfig, check_text};

    fn load(text: &str) -> Result<CheckedConfig, Vec<String>> {
        let env = |name: &str| (name == "PASS").then(|| "hunter%402".to_owned());
        check_text("f", text, &env, false)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn urls_are_read_as_other_clients_read_them() {
        fn check(text: &str, place: (&str, u16, u32), who: (Option<&str>, Option<&str>)) {
            let url = parse(text).unwrap();
            assert_eq!((&*url.host, url.port, url.db), place, "{text}");
            let password = url.password.as_ref().map(Secret::expose);
            assert_eq!((url.user.as_deref(), password), who, "{text}");
        }
        let nobody = (None, None);
        check("redis://h", ("h", 6379, 0), nobody);
        check("valkey://h/", ("h", 6379, 0), nobody);
        check("redis://h:1/15", ("h", 1, 15), nobody);
        check("redis://[::1]:7", ("::1", 7, 0), nobody);
        check("redis://:p@h", ("h", 6379, 0), (None, Some("p")));
        check(
            "redis://u:p%40%2f@h/2",
            ("h", 6379, 2),
            (Some("u"), Some("p@/")),
        );
        check("redis://:a/b@c@h", ("h", 6379, 0), (None, Some("a/b@c")));
        for text in [
            "",
            "h",
            "http://h",
            "rediss://h",
            "redis://",
            "redis://h:0",
            "redis://h:65536",
            "redis://h:",
            "redis://h/x",
            "redis://h/1?a=b",
            "redis://u@h",
            "redis://u:@h",
            "redis://:%4@h",
            "redis://:%ff@h",
            "redis://[::1",
            "redis://[x]:1",
            "redis://a b",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_section_has_its_defaults_and_its_url_may_be_a_secret_from_elsewhere() {
        let config = load("cache: {redis: {url: 'redis://:${PASS}@h'}}").unwrap();
        let redis = config.cache.redis.as_ref().unwrap();
        assert_eq!(redis.timeout, Duration::from_millis(20));
        assert_eq!(
            (&*redis.key_prefix, redis.max_connections.get()),
            ("victor:", 4)
        );
        let password = redis.password.as_ref().unwrap().expose();
        assert_eq!(password, "hunter@2");
        assert!(!format!("{config:?}{}", config.to_yaml().concat()).contains("hunter"));
        for off in ["", "cache: {redis: }", "cache: {redis: {url: '${NONE:-}'}}"] {
            assert_eq!(load(off).unwrap().cache.redis, None, "{off}");
        }
        let config = load("cache: {redis: {timeout_ms: 5}}").unwrap();
        assert!(config.warnings.iter().any(|it| it.contains("no `url`")));
    }

    #[test]
    fn a_fault_shows_nothing_of_the_url() {
        for url in [
            "rediss://:hunter2@h",
            "redis://:hunter2@h:99999",
            "redis://:hunter2@/",
            "redis://:hunter2%@h",
            "hunter2",
        ] {
            let faults = load(&format!("cache: {{redis: {{url: '{url}'}}}}")).unwrap_err();
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(
                faults[0].starts_with("f:1:17: cache.redis.url: "),
                "{faults:?}"
            );
            assert!(!faults[0].contains("hunter2"), "{faults:?}");
        }
        for wrong in [
            "timeout_ms: 0",
            "timeout_ms: 20ms",
            "key_prefix: ''",
            "key_prefix: 'a b'",
            "max_connections: 1",
            "max_conections: 4",
        ] {
            let text = format!("cache: {{redis: {{url: 'redis://h', {wrong}}}}}");
            assert_eq!(load(&text).unwrap_err().len(), 1, "{wrong}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_url_is_read_or_refused(text in "(redis://)?[ -~é]{0,40}") {
            if let Ok(url) = parse(&text) {
                prop_assert!(url.port > 0 && !url.host.is_empty());
            }
        }
    }
}
