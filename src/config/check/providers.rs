//! `providers`: who is asked, how, with which key.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::keys;
use super::prices::prices;
use super::speech::speech;
use super::{ENTRIES_MAX, MODEL, MODELS_MAX, NAME, is_model, is_name};
use crate::config::checked::{
    Batching, Breaker, KeyHeader, Kind, Provider, RateLimit, Secret, Speech,
};
use crate::config::fault::nearest;
use crate::config::presets::{PRESETS, Preset, SIMULATOR, preset};
use crate::config::raw::{Field, Map, Place, Raw};
use crate::config::scalar::{Bounds, Unit, Wrong};

/// What `models` of the simulator holds: the names that stand for all of its behaviours.
const SIMULATOR_MODEL: &str = "sim";
/// The largest certificate bundle, in bytes.
const CA_BYTES_MAX: u64 = 4 << 20;

/// The providers, and whether all of them, with all of their models, could be read.
pub(super) struct Providers {
    pub list: BTreeMap<String, Provider>,
    pub complete: bool,
}

/// Reads `providers`.
pub(super) fn providers(raw: &mut Raw<'_>, root: &mut Map<'_>) -> Providers {
    let map = raw.map(root, "providers");
    let mut providers = Providers {
        list: BTreeMap::new(),
        complete: !map.broken,
    };
    let entries = raw.entries(&map);
    if entries.len() > ENTRIES_MAX {
        let wrong = Wrong::new(format!("holds {} providers", entries.len()));
        raw.fault(&map.place, wrong, format!("at most {ENTRIES_MAX}"));
    }
    for (name, field) in entries.into_iter().take(ENTRIES_MAX) {
        if let Err(wrong) = is_name(name) {
            raw.fault(&field.place, wrong, NAME);
        }
        let provider = provider(raw, name, field, &mut providers.complete);
        providers.list.insert(name.to_owned(), provider);
    }
    providers
}

/// Adds the built-in simulator unless one is configured.
pub(super) fn add_simulator(providers: &mut Providers) {
    if providers.list.values().any(|p| p.kind == Kind::Simulator) {
        return;
    }
    let mut provider = defaults(SIMULATOR);
    provider.kind = Kind::Simulator;
    provider.models = vec![SIMULATOR_MODEL.to_owned()];
    // A demonstration is to show the pool's limits, not this one's.
    provider.max_connections = NonZeroUsize::new(4096).unwrap_or(NonZeroUsize::MIN);
    providers.list.insert(SIMULATOR.to_owned(), provider);
}

fn defaults(name: &str) -> Provider {
    let seconds = Duration::from_secs;
    Provider {
        name: name.to_owned(),
        kind: Kind::Openai,
        base_url: String::new(),
        api_keys: Vec::new(),
        key_header: KeyHeader::Bearer,
        models: Vec::new(),
        timeout: seconds(30),
        connect_timeout: seconds(5),
        first_token_timeout: seconds(10),
        idle_timeout: seconds(15),
        max_connections: NonZeroUsize::new(10).unwrap_or(NonZeroUsize::MIN),
        adaptive: false,
        keepalive: true,
        rate_limit: None,
        batching: None,
        prices: BTreeMap::new(),
        breaker: Breaker {
            failures: NonZeroU32::new(5).unwrap_or(NonZeroU32::MIN),
            window: seconds(30),
            open_for: seconds(15),
        },
        ca_file: None,
        proxy: None,
        speech: Speech::of(Kind::Openai, false),
    }
}

fn provider(raw: &mut Raw<'_>, name: &str, field: Field<'_>, complete: &mut bool) -> Provider {
    let mut map = raw.open(field);
    let mut provider = defaults(name);
    let known = preset(name);
    let kind = kind(raw, &mut map, name, known);
    provider.kind = kind.unwrap_or(Kind::Openai);
    // A preset speaks of the vendor's own API; the same name for another protocol is another API.
    let known = known.filter(|preset| kind == Some(preset.kind));
    if let Some(kind) = kind {
        provider.base_url = base_url(raw, &mut map, kind, known);
    } else {
        // Not known what it would have to be, but a key that may stand here.
        raw.field(&mut map, "base_url");
    }
    provider.key_header = match (known, provider.kind) {
        (Some(known), _) => known.key_header,
        (None, Kind::Anthropic) => KeyHeader::XApiKey,
        (None, _) => KeyHeader::Bearer,
    };
    provider.api_keys = keys(raw, &mut map, name, known);
    match models(raw, &mut map, provider.kind) {
        Some(models) => provider.models = models,
        None => *complete = false,
    }
    *complete &= !map.broken;

    let connections = raw.count(&mut map, "max_connections", 10, Bounds::count(1, 16_384));
    provider.max_connections = NonZeroUsize::new(connections).unwrap_or(NonZeroUsize::MIN);
    for (key, time) in [
        ("timeout", &mut provider.timeout),
        ("connect_timeout", &mut provider.connect_timeout),
        ("first_token_timeout", &mut provider.first_token_timeout),
        ("idle_timeout", &mut provider.idle_timeout),
    ] {
        *time = raw.timeout(&mut map, key, *time);
    }
    provider.adaptive = raw.boolean(&mut map, "adaptive", false);
    provider.keepalive = raw.boolean(&mut map, "keepalive", true);
    provider.rate_limit = rate_limit(raw, &mut map);
    provider.batching = batching(raw, &mut map);
    provider.prices = prices(raw, &mut map);
    provider.breaker = breaker(raw, &mut map, provider.breaker);
    provider.ca_file = ca_file(raw, &mut map);
    provider.proxy = proxy(raw, &mut map);
    let vendor = known.filter(|it| matches!(it.name, "openai" | "anthropic"));
    let is_vendor = vendor.is_some_and(|it| it.base_url == Some(provider.base_url.as_str()));
    provider.speech = speech(raw, &mut map, provider.kind, is_vendor);
    if kind == Some(Kind::Simulator) {
        refuse_for_simulator(raw, &mut map);
    }
    raw.close(map);
    provider
}

/// The kind that is written or that the name implies; `None` if neither is sound.
fn kind(raw: &mut Raw<'_>, map: &mut Map<'_>, name: &str, known: Option<&Preset>) -> Option<Kind> {
    let kinds = [Kind::Anthropic, Kind::Openai, Kind::Simulator].map(|kind| (kind.as_str(), kind));
    let written = map.has("kind");
    let kind = raw.choice(map, "kind", &kinds);
    if !written && !map.broken && known.is_none() {
        let mut wrong = Wrong::new("has no `kind`, and its name implies none");
        wrong.suggestion = nearest(name, PRESETS.iter().map(|preset| preset.name))
            .map(|preset| format!("`{preset}`"));
        let expected = "`kind: anthropic`, `kind: openai` or `kind: simulator`";
        raw.fault(&map.place, wrong, expected);
        return None;
    }
    if name == SIMULATOR && kind.is_some_and(|kind| kind != Kind::Simulator) {
        let wrong = Wrong::new("is the name of the built-in simulator");
        raw.fault(
            &map.place,
            wrong,
            "another name for a provider of this kind",
        );
        return None;
    }
    if written {
        kind
    } else {
        known.map(|preset| preset.kind)
    }
}

const BASE_URL: &str = "an http or https URL as the vendor's own SDK takes it, without \
                        credentials, query or fragment";

fn base_url(raw: &mut Raw<'_>, map: &mut Map<'_>, kind: Kind, known: Option<&Preset>) -> String {
    let Some((text, place)) = raw.text(map, "base_url", BASE_URL) else {
        let implied = known.and_then(|preset| preset.base_url);
        if implied.is_none() && kind != Kind::Simulator && !map.has("base_url") && !map.broken {
            let wrong = Wrong::new("has no `base_url`, and its name implies none");
            raw.fault(&map.place, wrong, BASE_URL);
        }
        return implied.unwrap_or_default().to_owned();
    };
    if kind == Kind::Simulator {
        return String::new();
    }
    let url = text.trim().trim_end_matches('/');
    match url_path(url) {
        Err(message) => raw.fault(&place, Wrong::new(message), BASE_URL),
        Ok("") if kind == Kind::Openai => raw.warnings.push(format!(
            "{}: the base URL has no path; the API of kind openai is usually below `/v1`",
            place.path
        )),
        Ok(path) if kind == Kind::Anthropic && path.ends_with("/v1") => raw.warnings.push(format!(
            "{}: calls will go to `…/v1/v1/messages`; of kind anthropic the base URL is usually \
             without `/v1`",
            place.path
        )),
        Ok(_) => {}
    }
    url.to_owned()
}

/// The path of an absolute `http` or `https` URL (RFC 3986, section 3), or what is wrong with
/// it. What is wrong is told without the URL: it may hold a password.
fn url_path(url: &str) -> Result<&str, &'static str> {
    let Some(rest) = ["http://", "https://"].iter().find_map(|scheme| {
        Some(
            &url[url
                .get(..scheme.len())?
                .eq_ignore_ascii_case(scheme)
                .then_some(scheme.len())?..],
        )
    }) else {
        return Err("the URL does not begin with http:// or https://");
    };
    if !url.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("the URL holds white space or characters other than ASCII");
    }
    if url.contains('?') {
        return Err("the URL has a query");
    }
    if url.contains('#') {
        return Err("the URL has a fragment");
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("the URL holds credentials, which belong in `api_key`");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let named = |c: char| c.is_ascii_alphanumeric() || "-._~%".contains(c);
    if host.is_empty() || !bracketed && !host.chars().all(named) {
        return Err("the URL has no valid host");
    }
    match port.map(str::parse::<u16>) {
        Some(Err(_) | Ok(0)) => Err("the URL's port is not from 1 to 65535"),
        _ => Ok(path),
    }
}

/// The model ids; `None` if the list has a fault.
fn models(raw: &mut Raw<'_>, map: &mut Map<'_>, kind: Kind) -> Option<Vec<String>> {
    let Some(field) = raw.field(map, "models") else {
        let simulator = kind == Kind::Simulator;
        return Some(if simulator {
            vec![SIMULATOR_MODEL.to_owned()]
        } else {
            Vec::new()
        });
    };
    let items = raw.items(&field, "a list of model names")?;
    if items.len() > MODELS_MAX {
        let wrong = Wrong::new(format!("holds {} models", items.len()));
        raw.fault(&field.place, wrong, format!("at most {MODELS_MAX}"));
        return None;
    }
    let mut models = Vec::with_capacity(items.len());
    let mut sound = true;
    for item in items {
        let Some(scalar) = raw.scalar(&item, MODEL) else {
            sound = false;
            continue;
        };
        let mut checked = is_model(&scalar.text);
        if models.contains(&scalar.text) {
            checked = Err(Wrong::new(format!("{} is listed twice", scalar.shown)));
        }
        if let Err(wrong) = checked {
            raw.fault(&item.place, wrong, MODEL);
            sound = false;
        }
        models.push(scalar.text);
    }
    sound.then_some(models)
}

fn rate_limit(raw: &mut Raw<'_>, map: &mut Map<'_>) -> Option<RateLimit> {
    let written = map.has("rate_limit");
    let mut limit = raw.map(map, "rate_limit");
    let rate = Bounds {
        min: 0.001,
        whole: false,
        ..Bounds::count(1, 1_000_000)
    };
    let given = limit.has("requests_per_second");
    let per_second = raw.number(&mut limit, "requests_per_second", rate);
    let burst = raw.number(&mut limit, "burst", Bounds::count(1, 1_000_000));
    if !given && limit.has("burst") {
        let wrong = Wrong::new("has a burst but no `requests_per_second`");
        raw.fault(&limit.place, wrong, rate.expected());
    }
    raw.close(limit);
    let per_second = per_second.filter(|_| written)?;
    // Without a burst of its own, one second's worth may come at once.
    let burst = burst.unwrap_or(per_second.ceil()) as u32;
    Some(RateLimit {
        requests_per_second: per_second,
        burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN),
    })
}

fn batching(raw: &mut Raw<'_>, map: &mut Map<'_>) -> Option<Batching> {
    let enabled = raw.boolean(map, "enable_batching", false);
    let size = raw.count(map, "batch_size", 10, Bounds::count(1, 10_000));
    let wait = Bounds::count(1, 60_000).of(Unit::Milliseconds);
    let default = Duration::from_millis(100);
    let timeout = raw.duration(map, "batch_timeout_ms", default, wait);
    enabled.then(|| Batching {
        size: NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN),
        timeout,
    })
}

fn breaker(raw: &mut Raw<'_>, map: &mut Map<'_>, default: Breaker) -> Breaker {
    let mut map = raw.map(map, "breaker");
    let failures = raw.count(&mut map, "failures", 5, Bounds::count(1, 100_000));
    let breaker = Breaker {
        failures: u32::try_from(failures)
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(default.failures),
        window: raw.timeout(&mut map, "window", default.window),
        open_for: raw.timeout(&mut map, "open_for", default.open_for),
    };
    raw.close(map);
    breaker
}

fn ca_file(raw: &mut Raw<'_>, map: &mut Map<'_>) -> Option<PathBuf> {
    let expected = "a readable file of PEM certificates";
    let (text, place) = raw.text(map, "ca_file", expected)?;
    let path = PathBuf::from(text);
    if let Err(message) = has_certificate(&path) {
        raw.fault(&place, Wrong::new(message), expected);
    }
    Some(path)
}

fn has_certificate(path: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !metadata.is_file() || metadata.len() > CA_BYTES_MAX {
        return Err("is not a regular file of at most 4 MiB".to_owned());
    }
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    match memchr::memmem::find(&bytes, b"-----BEGIN CERTIFICATE-----") {
        Some(_) => Ok(()),
        None => Err("holds no certificate".to_owned()),
    }
}

fn proxy(raw: &mut Raw<'_>, map: &mut Map<'_>) -> Option<Secret> {
    let field = raw.field(map, "proxy")?;
    let proxy = raw.secret(&field).ok()??;
    let expected = "`http://host:port`, with `user:password@` if need be";
    let rest = proxy.expose().strip_prefix("http://");
    let authority = rest.map(|rest| rest.trim_end_matches('/'));
    let host = authority.map(|authority| authority.rsplit_once('@').map_or(authority, |(_, h)| h));
    let checked = match host {
        None => Err("the proxy's URL does not begin with http://"),
        Some(host) => url_path(&format!("http://{host}")).map(|path| path.is_empty()),
    };
    let message = match checked {
        Ok(true) => return Some(proxy),
        Ok(false) => "the proxy's URL has a path",
        Err(message) => message,
    };
    raw.fault(&field.place, Wrong::new(message), expected);
    None
}

/// The simulator runs in process: what says how to reach a provider would have no effect.
fn refuse_for_simulator(raw: &mut Raw<'_>, map: &mut Map<'_>) {
    for key in ["base_url", "api_key", "api_keys", "ca_file", "proxy"] {
        if let Some(pos) = map.pos_of(key) {
            let place = Place {
                pos,
                path: format!("{}.{key}", map.place.path),
                schema: String::new(),
            };
            let wrong = Wrong::new("has no effect: the simulator runs in this process");
            raw.fault(&place, wrong, "no such key for `kind: simulator`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_plain_http_urls() {
        fn check(url: &str, expected: Result<&str, &str>) {
            match (url_path(url), expected) {
                (Err(message), Err(part)) => assert!(message.contains(part), "{url}: {message}"),
                (path, expected) => assert_eq!(path, expected, "{url}"),
            }
        }
        check("https://api.openai.com/v1", Ok("/v1"));
        check("http://127.0.0.1:9191", Ok(""));
        check("HTTPS://[::1]:80/x", Ok("/x"));
        check("http://[::1]", Ok(""));
        check("ftp://a", Err("begin"));
        check("é", Err("begin"));
        check("api.openai.com", Err("begin"));
        check("https://user:pw@host/v1", Err("credentials"));
        check("https://host/v1?api-version=1", Err("query"));
        check("https://host/v1#x", Err("fragment"));
        check("https://", Err("host"));
        check("https://ho st/", Err("white space"));
        check("https://host:0/", Err("port"));
        check("https://host:99999", Err("port"));
        check("https://host:/v1", Err("port"));
    }
}
