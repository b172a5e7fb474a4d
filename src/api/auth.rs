//! Who may call.
//!
//! Keys are kept and compared as hashes, all of them each time, in constant time: neither how
//! much of a key was right nor how long it is can be measured.

use subtle::{Choice, ConstantTimeEq};

use crate::config::checked::Auth;
use crate::front::Request;
use crate::store::Scope;
use crate::wire::errors::{ApiError, Kind};

/// The keys that are let in; none means that no key is asked for.
pub struct Keys {
    hashes: Vec<[u8; 32]>,
}

impl Keys {
    /// The configured keys.
    pub fn new(auth: &Auth) -> Self {
        let hash = |key: &crate::config::checked::Secret| {
            *blake3::hash(key.expose().as_bytes()).as_bytes()
        };
        Self {
            hashes: auth.keys.iter().map(hash).collect(),
        }
    }

    /// Checks the key of a request.
    ///
    /// # Errors
    /// 401, where keys are configured and the request brings none of them.
    pub fn admit(&self, request: &Request) -> Result<(), ApiError> {
        if self.hashes.is_empty() {
            return Ok(());
        }
        match presented(request) {
            Some(key) if self.knows(key) => Ok(()),
            Some(_) => Err(ApiError::new(
                Kind::Authentication,
                "the key is not one of those that are let in here; ask the operator of this \
                 gateway for one",
            )
            .code("invalid_api_key")),
            None => Err(ApiError::new(
                Kind::Authentication,
                "a key is missing; send it as `authorization: Bearer KEY` or `x-api-key: KEY`",
            )
            .code("missing_api_key")),
        }
    }

    /// Whose a request is: a hash of its key, or the one scope of all callers where no key is
    /// asked for.
    pub fn scope(&self, request: &Request) -> Scope {
        if self.hashes.is_empty() {
            return Scope::default();
        }
        presented(request).map_or_else(Scope::default, |key| {
            *blake3::hash(key.as_bytes()).as_bytes()
        })
    }

    fn knows(&self, key: &str) -> bool {
        let hash = *blake3::hash(key.as_bytes()).as_bytes();
        let any = self
            .hashes
            .iter()
            .fold(Choice::from(0), |any, known| any | known.ct_eq(&hash));
        any.into()
    }
}

/// The key that a request brings, as either vendor's SDK sends it.
fn presented(request: &Request) -> Option<&str> {
    let bearer = request.header("authorization").and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| request.header("x-api-key").map(str::trim))
}
