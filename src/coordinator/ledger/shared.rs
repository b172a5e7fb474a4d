//! What the account of one call takes from that of another whose answer it shares.

use std::time::Instant;

use super::{CLIENT_LEFT, Ledger, PATH_BYTES_MAX};
use crate::cache::Entry;
use crate::metrics::{Cached, Saved};
use crate::provider::Header;
use crate::wire::usage::Usage;

/// Who answered, and what is told of it.
#[derive(Clone, Default)]
pub struct Served {
    provider: String,
    model: String,
    attempts: u32,
    path: String,
    usage: Usage,
    upstream_headers: Vec<Header>,
    upstream_request_id: String,
    dropped: String,
    /// Whether the coordinator took the call.
    taken: bool,
}

/// How a call ended: `error_type` is empty if as it should.
#[derive(Clone)]
pub struct Ended {
    pub status: u16,
    pub error_type: &'static str,
    pub message: String,
}

impl Ended {
    /// Its client left.
    pub const fn client_left() -> Self {
        Self {
            status: CLIENT_LEFT,
            error_type: "client_gone",
            message: String::new(),
        }
    }
}

impl Ledger {
    /// Who has answered.
    pub fn served(&self) -> Served {
        Served {
            provider: self.provider.clone(),
            model: self.model.clone(),
            attempts: self.attempts,
            path: self.path.clone(),
            usage: self.usage,
            upstream_headers: self.upstream_headers.clone(),
            upstream_request_id: self.upstream_request_id.clone(),
            dropped: self.dropped.clone(),
            taken: self.taken,
        }
    }

    /// How it ended, once it is settled.
    pub fn ended(&self) -> Ended {
        Ended {
            status: self.status,
            error_type: self.error_type,
            message: self.message.clone(),
        }
    }

    /// Takes over who answered a call whose answer this one shares.
    pub fn adopt(&mut self, served: &Served) {
        self.provider.clone_from(&served.provider);
        self.model.clone_from(&served.model);
        self.attempts = served.attempts;
        self.taken = served.taken;
        self.usage = served.usage;
        self.upstream_headers.clone_from(&served.upstream_headers);
        self.upstream_request_id
            .clone_from(&served.upstream_request_id);
        self.dropped.clone_from(&served.dropped);
    }

    /// Takes over what came of asking for `calls` calls in one, of which this one is one, in
    /// addition to what it was asked for before. The usage is not its own.
    pub fn share(&mut self, served: &Served, calls: usize) {
        let before = self.attempts;
        self.adopt(served);
        self.attempts += before;
        self.merged = u32::try_from(calls).unwrap_or(u32::MAX);
        self.usage = Usage::default();
        if self.path.len() < PATH_BYTES_MAX && !served.path.is_empty() {
            let separator = if self.path.is_empty() { "" } else { " " };
            self.path.extend([separator, &served.path]);
        }
    }

    /// Counts that so many calls were answered by asking for them in one.
    pub fn count_merged(&self, calls: usize) {
        let process = &self.coordinator.process;
        let metrics = process.provider(&self.provider, &self.model);
        metrics.shared().merged(calls as u64);
    }

    /// Settles as the call whose answer this one shares.
    pub fn settle_as(&mut self, ended: &Ended) {
        if !self.settled && ended.error_type.is_empty() {
            // Whoever shared it has waited as long.
            self.save(Saved {
                time: std::time::Duration::ZERO,
                ..self.spared()
            });
        }
        self.settle(ended.status, ended.error_type, &ended.message);
    }

    /// Takes over who gave the answer that is given again.
    pub fn recall(&mut self, entry: &Entry, now: Instant) {
        self.provider.push_str(&entry.provider);
        entry.model.as_ref().clone_into(&mut self.model);
        self.usage = entry.usage;
        self.dropped.push_str(&entry.dropped);
        if let Some(id) = &entry.upstream_request_id {
            self.upstream_request_id.push_str(id);
        }
        self.age = Some(entry.age(now).as_secs());
        let time = match self.cached {
            Cached::Hit => entry.cost.time,
            _ => std::time::Duration::ZERO,
        };
        self.save(Saved {
            time,
            ..self.spared()
        });
    }

    /// What the answer's tokens would have cost.
    fn spared(&self) -> Saved {
        let tokens = (
            self.usage.input.unwrap_or(0),
            self.usage.output.unwrap_or(0),
        );
        let answers = &self.coordinator.answers;
        Saved {
            input_tokens: tokens.0,
            output_tokens: tokens.1,
            dollars: answers.cost(&self.provider, &self.model, tokens),
            ..Saved::default()
        }
    }

    fn save(&self, saved: Saved) {
        self.coordinator.metrics.cache.save(&saved);
    }
}
