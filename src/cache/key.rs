//! What two calls must share for one's answer to be the other's.
//!
//! The key is a hash of everything that can change the answer: where the call goes, for whom, and
//! the whole body, fields that nobody here knows included. A body that could be read in two ways
//! has none, and is not cached. Start at [`Key::of`].

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::wire::Endpoint;
use crate::wire::json::canonical;

/// Part of every key: another form of keys needs another one, since keys outlive the process.
const FORM: &[u8] = b"victor key 1";

/// What the body does not say, or says in another way.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The endpoint, and with it the dialect.
    pub endpoint: Endpoint,
    /// The coordinator's name.
    pub coordinator: &'a str,
    /// The name of the route that the model was resolved to. It stands for the body's `model`.
    pub route: &'a str,
    /// The caller's scope: callers with different ones never share an answer.
    pub scope: &'a [u8; 32],
    /// Headers of the caller's that go to the provider and can change its answer
    /// (`anthropic-version`, `anthropic-beta`, `openai-organization`…), names in lower case, in
    /// an order that does not depend on the caller.
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl Place<'_> {
    /// A hash of all parts, each with its length in front.
    fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(FORM);
        part(self.endpoint.dialect().label().as_bytes());
        part(self.endpoint.label().as_bytes());
        part(self.coordinator.as_bytes());
        part(self.route.as_bytes());
        part(self.scope);
        part(&(self.headers.len() as u64).to_le_bytes());
        for (name, value) in self.headers {
            part(name.as_bytes());
            part(value);
        }
        *hasher.finalize().as_bytes()
    }
}

/// 32 bytes of blake3: two different calls do not meet in one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of a call; `None` if the body is no JSON object in UTF-8, or has no
    /// [canonical form](canonical::Refusal). Takes about a millisecond for 1 MB.
    pub fn of(place: &Place<'_>, body: &[u8]) -> Option<Self> {
        let body = str::from_utf8(body).ok()?;
        // The place is the hash's key, so that the body begins where the hash's first block does.
        let mut hasher = blake3::Hasher::new_keyed(&place.digest());
        let left_out = left_out(place.endpoint);
        canonical::write(body, left_out, &mut |bytes| {
            hasher.update(bytes);
        })
        .ok()?;
        Some(Self(*hasher.finalize().as_bytes()))
    }

    /// Another key, which no other one has: for the answer to the same call in another form.
    pub const fn variant(mut self) -> Self {
        self.0[31] ^= 1;
        self
    }

    /// The key that was stored as these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for storing.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Eight of its bytes, which are as good as any hash of it: the first to choose a shard, the
    /// lower half of the second a cell of its index.
    pub(super) fn word(&self, index: usize) -> u64 {
        let (words, _) = self.0.as_chunks::<8>();
        u64::from_le_bytes(words[index])
    }
}

impl Hash for Key {
    /// The second word, for maps whose hasher is to see no more: the key is a hash.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.word(1));
    }
}

impl fmt::Debug for Key {
    /// The first eight of its 64 digits.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4]
            .iter()
            .try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// The members at the top of a body that are no part of its key.
///
/// `model`, since the route stands for it. `stream` and `stream_options`, since an answer is
/// replayed in the shape that is asked for: whoever replays one to a caller that streams attends
/// to `include_usage`. `user` and `metadata` say on whose behalf the call is made, as do
/// `safety_identifier` and `prompt_cache_key`, which OpenAI has split `user` into
/// (<https://platform.openai.com/docs/api-reference/chat/create>). Responses are the exception:
/// they repeat all four, so there they change the answer.
const fn left_out(endpoint: Endpoint) -> &'static [&'static str] {
    match endpoint {
        Endpoint::ChatCompletions => &[
            "model",
            "stream",
            "stream_options",
            "user",
            "metadata",
            "safety_identifier",
            "prompt_cache_key",
        ],
        Endpoint::Completions
        | Endpoint::Embeddings
        | Endpoint::Messages
        | Endpoint::CountTokens => &["model", "stream", "stream_options", "user", "metadata"],
        Endpoint::Responses => &["model", "stream", "stream_options"],
    }
}
