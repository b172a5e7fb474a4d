//! Names to addresses, remembered for a while.
//!
//! A look-up is the system's (`getaddrinfo`), on the thread of the call that needs it: it cannot
//! be interrupted, so its worst case is what resolv.conf allows (by default 5 s, twice, a name
//! server), and that is why answers are kept for [`TTL`], why a stale answer serves while one
//! caller refreshes it or when refreshing fails, and why only a call that really opens a
//! connection comes here: a call on a pooled connection never waits for DNS.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver as UreqResolver};
use ureq::unversioned::transport::NextTimeout;

use crate::sync::Mutex;

/// For how long an answer is used without asking again.
pub const TTL: Duration = Duration::from_secs(30);
/// Names kept; a provider has one, and one more for its proxy.
const NAMES_MAX: usize = 8;
/// Addresses kept of one name.
const ADDRESSES_MAX: usize = 16;

type LookUp = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// A caching resolver for the few names of one provider.
pub struct Resolver {
    names: Mutex<Vec<Known>>,
    look_up: LookUp,
}

struct Known {
    host: String,
    port: u16,
    addresses: Vec<SocketAddr>,
    fresh_until: Instant,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::with(system)
    }
}

fn system(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port)
        .to_socket_addrs()?
        .take(ADDRESSES_MAX)
        .collect())
}

impl Resolver {
    fn with(look_up: LookUp) -> Self {
        Self {
            names: Mutex::new("provider.names", Vec::new()),
            look_up,
        }
    }

    /// The addresses of `host`, which may be a literal, at least one.
    ///
    /// # Errors
    /// The system finds none and none is remembered.
    pub fn addresses(&self, host: &str, port: u16, now: Instant) -> io::Result<Vec<SocketAddr>> {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        if let Some(known) = self.known(bare, port, now) {
            return Ok(known);
        }
        match (self.look_up)(bare, port) {
            Ok(found) if !found.is_empty() => {
                self.remember(bare, port, &found, now);
                Ok(found)
            }
            Ok(_) => self.stale(bare, port).ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, "the name has no addresses")
            }),
            Err(error) => self.stale(bare, port).ok_or(error),
        }
    }

    /// Forgets every name; returns how many there were.
    pub fn forget(&self) -> usize {
        std::mem::take(&mut *self.names.lock()).len()
    }

    /// A fresh answer. An answer that has just become stale is made fresh for the others, so that
    /// only this caller asks again.
    fn known(&self, host: &str, port: u16, now: Instant) -> Option<Vec<SocketAddr>> {
        let mut names = self.names.lock();
        let known = names
            .iter_mut()
            .find(|known| known.port == port && known.host == host)?;
        if now < known.fresh_until {
            return Some(known.addresses.clone());
        }
        known.fresh_until = now + TTL;
        None
    }

    fn stale(&self, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        let names = self.names.lock();
        let known = names
            .iter()
            .find(|known| known.port == port && known.host == host)?;
        Some(known.addresses.clone())
    }

    fn remember(&self, host: &str, port: u16, addresses: &[SocketAddr], now: Instant) {
        let mut names = self.names.lock();
        names.retain(|known| known.port != port || known.host != host);
        if names.len() == NAMES_MAX {
            names.remove(0);
        }
        names.push(Known {
            host: host.to_owned(),
            port,
            addresses: addresses.to_vec(),
            fresh_until: now + TTL,
        });
    }
}

/// What ureq is given: no addresses. It asks before every call, pooled connection or not; our
/// connector looks the name up itself, when it has to connect.
#[derive(Clone, Copy, Debug)]
pub struct AtConnect;

impl UreqResolver for AtConnect {
    fn resolve(
        &self,
        _: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 443))
    }

    #[test]
    fn literals_need_no_look_up() {
        let resolver = Resolver::with(|_, _| panic!("looked up"));
        let check = |host, expected: &str| {
            let found = resolver.addresses(host, 443, Instant::now()).unwrap();
            assert_eq!(found, [expected.parse().unwrap()]);
        };
        check("127.0.0.1", "127.0.0.1:443");
        check("[::1]", "[::1]:443");
        check("::1", "[::1]:443");
    }

    #[test]
    fn an_answer_is_kept_for_its_time_then_asked_again_and_kept_if_that_fails() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let resolver = Resolver::with(|_, _| match ASKED.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(vec![address(1)]),
            1 => Ok(vec![address(2)]),
            _ => Err(io::ErrorKind::TimedOut.into()),
        });
        let start = Instant::now();
        let at = |seconds| {
            let now = start + Duration::from_secs(seconds);
            (
                resolver.addresses("api.test", 443, now).unwrap()[0],
                ASKED.load(Ordering::Relaxed),
            )
        };
        assert_eq!(at(0), (address(1), 1));
        assert_eq!(at(29), (address(1), 1));
        assert_eq!(at(31), (address(2), 2));
        assert_eq!(at(62), (address(2), 3), "the stale answer serves");
        assert_eq!(
            at(63),
            (address(2), 3),
            "and is not asked for at once again"
        );
    }

    #[test]
    fn the_names_are_bounded() {
        let resolver = Resolver::with(|_, port| Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]));
        for port in 1..100 {
            resolver
                .addresses("api.test", port, Instant::now())
                .unwrap();
        }
        assert_eq!(resolver.forget(), NAMES_MAX);
        assert_eq!(resolver.forget(), 0);
    }
}
