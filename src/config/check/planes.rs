//! `server`, `ops`, `admin`, `auth`: who may connect, and where.
//!
//! The loopback rule holds here: a listener that other machines can reach needs keys (the API)
//! or an explicit word (the ops plane).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{SOCKET, is_path};
use crate::config::checked::{Auth, Ops, Server};
use crate::config::raw::{Map, Place, Raw};
use crate::config::scalar::{Bounds, Scalar, Unit, Wrong};

/// Shorter keys can be guessed.
const KEY_CHARS_MIN: usize = 16;
const KEY_CHARS_MAX: usize = 512;
/// Each request is compared with every key.
const KEYS_MAX: usize = 1000;
/// `sun_path` of unix(7), less its NUL.
const SOCKET_BYTES_MAX: usize = 107;

/// The keys, and whether any were written, good or not.
pub(super) struct Keys {
    pub auth: Auth,
    written: bool,
}

/// Reads `auth`.
pub(super) fn auth(raw: &mut Raw<'_>, root: &mut Map<'_>) -> Keys {
    let mut map = raw.map(root, "auth");
    let mut keys = Keys {
        auth: Auth { keys: Vec::new() },
        written: map.broken,
    };
    if let Some(field) = raw.field(&mut map, "keys") {
        let items = raw.items(&field, "a list of keys");
        keys.written = items.as_ref().is_none_or(|items| !items.is_empty());
        let items = items.unwrap_or_default();
        if items.len() > KEYS_MAX {
            let wrong = Wrong::new(format!("holds {} keys", items.len()));
            raw.fault(&field.place, wrong, format!("at most {KEYS_MAX}"));
        }
        let mut seen = HashMap::new();
        for (index, item) in items.iter().enumerate() {
            let Ok(secret) = raw.secret(item) else {
                continue;
            };
            let text = secret.as_ref().map_or("", |secret| secret.expose());
            let wrong = match seen.get(text) {
                _ if text.is_empty() => Some(Wrong::new("the key is empty")),
                Some(first) => Some(Wrong::new(format!("is the same key as item {first}"))),
                None if text.len() > KEY_CHARS_MAX => Some(Wrong::new("the key is too long")),
                None => None,
            };
            if let (None, Some(weak)) = (&wrong, weakness(text)) {
                // The operator's to decide: on loopback a short key may be all that is wanted.
                let number = index + 1;
                raw.warnings
                    .push(format!("auth.keys: item {number} {weak}; better: {STRONG}"));
            }
            match (wrong, secret) {
                (Some(wrong), _) => raw.fault(&item.place, wrong, STRONG),
                (None, Some(secret)) => {
                    seen.insert(secret.expose().to_owned(), index + 1);
                    keys.auth.keys.push(secret);
                }
                (None, None) => {}
            }
        }
    }
    raw.close(map);
    keys
}

const STRONG: &str = "a key of its own for each caller, random, 16 to 512 characters";

/// Why a key must not be relied on, without showing it.
fn weakness(key: &str) -> Option<&'static str> {
    let mut distinct: Vec<u8> = key.bytes().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if key.len() < KEY_CHARS_MIN {
        Some("is short and can be guessed")
    } else if distinct.len() < 5 {
        Some("repeats a few characters and can be guessed")
    } else {
        None
    }
}

/// Where a plane listens; `place` is where that was written.
struct Listen {
    addr: SocketAddr,
    place: Option<Place>,
    /// Whether `addr` is what the operator meant.
    sound: bool,
}

fn listen(raw: &mut Raw<'_>, map: &mut Map<'_>, default: u16) -> Listen {
    let mut listen = Listen {
        addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), default),
        place: None,
        sound: !map.broken,
    };
    let expected = "an address and a port, as in 127.0.0.1:8000 or [::1]:8000";
    if let Some(field) = raw.field(map, "listen") {
        let scalar = raw.scalar(&field, expected);
        match scalar.map(|scalar| address(&scalar)) {
            Some(Ok(addr)) => listen.addr = addr,
            Some(Err(wrong)) => {
                listen.sound = false;
                raw.fault(&field.place, wrong, expected);
            }
            None => listen.sound = false,
        }
        listen.place = Some(field.place);
    }
    listen
}

fn address(scalar: &Scalar) -> Result<SocketAddr, Wrong> {
    let text = scalar.text.trim();
    let text = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok(addr);
    }
    let shown = &scalar.shown;
    let Some((host, port)) = text.rsplit_once(':') else {
        let wrong = Wrong::new(format!("{shown} is not an address and a port"));
        return Err(match text.parse::<u16>() {
            Ok(port) => wrong.suggest(format!("127.0.0.1:{port}")),
            Err(_) => wrong,
        });
    };
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    Err(if digits && port.parse::<u16>().is_err() {
        Wrong::new(format!("the port of {shown} is above 65535"))
    } else if digits && host.is_empty() {
        Wrong::new(format!("{shown} has no address")).suggest(format!("127.0.0.1:{port}"))
    } else {
        Wrong::new(format!("{shown} is not an address and a port"))
    })
}

fn is_loopback(addr: SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}

/// Whether both cannot be bound at once; port 0 is whatever is free.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let (ip_a, ip_b) = (a.ip().to_canonical(), b.ip().to_canonical());
    // `[::]` takes IPv4 too, unless the system says otherwise: both wildcards take all.
    a.port() == b.port()
        && a.port() != 0
        && (ip_a == ip_b || ip_a.is_unspecified() || ip_b.is_unspecified())
}

/// Reads `server` and `ops`, and checks them against each other and against `auth`.
pub(super) fn listeners(raw: &mut Raw<'_>, root: &mut Map<'_>, keys: &Keys) -> (Server, Ops) {
    let mut map = raw.map(root, "server");
    let api = listen(raw, &mut map, 8000);
    let server = server(raw, &mut map, api.addr);
    raw.close(map);
    let mut map = raw.map(root, "ops");
    let ops = listen(raw, &mut map, 9090);
    let allow_remote = raw.boolean(&mut map, "allow_remote", false);
    raw.close(map);

    if let Some(place) = &api.place
        && !is_loopback(api.addr)
        && !keys.written
    {
        let wrong = Wrong::new(format!(
            "{} can be reached from other machines, and `auth.keys` is empty",
            api.addr
        ));
        raw.fault(place, wrong, "keys, or a loopback address");
    }
    if let Some(place) = &ops.place
        && !is_loopback(ops.addr)
        && !allow_remote
    {
        let wrong = Wrong::new(format!("{} can be reached from other machines", ops.addr));
        let expected = "a loopback address, or `ops.allow_remote: true` beside it";
        raw.fault(place, wrong, expected);
    }
    if api.sound
        && ops.sound
        && collide(api.addr, ops.addr)
        && let Some(place) = ops.place.as_ref().or(api.place.as_ref())
    {
        let (api, ops) = (api.addr, ops.addr);
        let wrong = Wrong::new(format!(
            "server.listen ({api}) and ops.listen ({ops}) want the same port"
        ));
        raw.fault(place, wrong, "two ports");
    }
    (server, Ops { listen: ops.addr })
}

fn server(raw: &mut Raw<'_>, map: &mut Map<'_>, listen: SocketAddr) -> Server {
    let seconds = Duration::from_secs;
    let most = Bounds::count(1, 1_000_000);
    let connections = raw.count(map, "max_connections", 10_000, most);
    let body = Bounds::count(1, 1024).of(Unit::Mebibytes);
    let none_or_some = Bounds {
        min: 0.0,
        ..Bounds::TIMEOUT
    };
    Server {
        listen,
        max_connections: NonZeroUsize::new(connections).unwrap_or(NonZeroUsize::MIN),
        header_timeout: raw.timeout(map, "header_timeout", seconds(10)),
        body_timeout: raw.timeout(map, "body_timeout", seconds(30)),
        idle_timeout: raw.timeout(map, "idle_timeout", seconds(75)),
        write_timeout: raw.timeout(map, "write_timeout", seconds(30)),
        max_body_bytes: raw.count(map, "max_body_mb", 32, body) << 20,
        drain_timeout: raw.timeout(map, "drain_timeout", seconds(30)),
        keep_alive_comment: raw.duration(map, "keep_alive_comment", seconds(10), none_or_some),
        expose_metrics: raw.boolean(map, "expose_metrics", false),
    }
}

/// Reads `admin.socket`: the path as it was written, or where it is by default.
pub(super) fn socket(
    raw: &mut Raw<'_>,
    root: &mut Map<'_>,
    demo: bool,
    state_dir: &Path,
) -> PathBuf {
    let mut map = raw.map(root, "admin");
    let expected = "the path of a unix socket, at most 107 bytes";
    let written = raw.text(&mut map, "socket", expected);
    raw.close(map);
    match written {
        Some((text, place)) => {
            let mut checked = is_path(&text);
            if checked.is_ok() && text.len() > SOCKET_BYTES_MAX {
                checked = Err(Wrong::new("is longer than the system takes"));
            }
            if let Err(wrong) = checked {
                raw.fault(&place, wrong, expected);
            }
            PathBuf::from(text)
        }
        None if demo => state_dir.join("admin.sock"),
        None => PathBuf::from(SOCKET),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_collide_with_every_address_of_the_port() {
        fn check(a: &str, b: &str, expected: bool) {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(collide(a, b), expected, "{a} {b}");
            assert_eq!(collide(b, a), expected, "{b} {a}");
        }
        check("127.0.0.1:80", "127.0.0.1:80", true);
        check("127.0.0.1:80", "127.0.0.1:81", false);
        check("127.0.0.1:80", "127.0.0.2:80", false);
        check("0.0.0.0:80", "127.0.0.1:80", true);
        check("[::]:80", "127.0.0.1:80", true);
        check("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true);
        check("127.0.0.1:0", "127.0.0.1:0", false);
    }
}
