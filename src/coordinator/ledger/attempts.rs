//! What is accounted of each attempt at a target.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Ledger, PATH_BYTES_MAX};
use crate::metrics::{Outcome, ProviderMetrics, Token};
use crate::provider::breaker::{State, Ticket};
use crate::provider::route::Target;
use crate::wire::usage::Usage;

impl Ledger {
    /// Counts a step to `target` after a failure elsewhere, or there, if there was one.
    pub fn moved_on(&self, failed: Option<(&Target, &'static str)>, target: &Target) {
        let is_retry = failed.is_some_and(|(before, _)| std::ptr::eq(before, target));
        if !is_retry {
            target.provider.governor().call(Instant::now());
        }
        let Some((before, reason)) = failed else {
            return;
        };
        let metrics = self.provider_metrics(before);
        match is_retry {
            true => metrics.shared().retried(reason),
            false => metrics.shared().failed_over(reason),
        }
    }

    /// The first event of the running attempt's stream has come.
    pub fn first_event_came(&mut self) {
        if self.first_event.is_none() {
            self.first_event = Some(self.received.elapsed());
        }
    }

    /// When the running attempt was about to be sent.
    pub const fn asked(&mut self, at: Option<Instant>) {
        self.asked = at;
    }

    /// The rate limit held a request back.
    pub fn held_back(&self, target: &Target) {
        self.provider_metrics(target).shared().held_back();
    }

    /// Counts events of a stream that were left out, being malformed.
    pub fn left_out(&self, target: &Target, events: u64) {
        self.provider_metrics(target).shared().left_out(events);
    }

    /// An attempt at `target` begins.
    pub fn attempt_begins(&mut self, target: &Target) {
        target.provider.name().clone_into(&mut self.provider);
        target.model.clone_into(&mut self.model);
        self.attempts += 1;
    }

    /// From here on the account is that of the attempt at `target`, which its breaker let through
    /// with `ticket`; `dropped` names what the provider is not told.
    pub fn turn_to(&mut self, target: &Target, ticket: Ticket, dropped: String) {
        target.provider.name().clone_into(&mut self.provider);
        target.model.clone_into(&mut self.model);
        self.dropped = dropped;
        self.ticket = Some(ticket);
        self.usage = Usage::default();
        if !self.stream_begun {
            self.first_event = None;
        }
        self.upstream_headers.clear();
        self.upstream_request_id.clear();
        self.note.clear();
    }

    /// Accounts for the attempt at hand, which has ended. `how` is its status or the word for what
    /// went wrong.
    pub fn attempt_ended(&mut self, target: &Target, outcome: Outcome, took: Duration, how: &str) {
        let ticket = self.ticket.take();
        self.spent = took;
        let metrics = self.judge(target, ticket, outcome, took, how);
        for (token, count) in [
            (Token::Input, self.usage.input),
            (Token::Output, self.usage.output),
            (Token::CacheRead, self.usage.cache_read),
            (Token::CacheWrite, self.usage.cache_write),
            (Token::Reasoning, self.usage.reasoning),
        ] {
            metrics.tokens(token, count.unwrap_or(0));
        }
    }

    /// Counts an attempt that has ended, judges it before its breaker, and says so in the log.
    pub fn judge(
        &mut self,
        target: &Target,
        ticket: Option<Ticket>,
        outcome: Outcome,
        took: Duration,
        how: &str,
    ) -> Arc<ProviderMetrics> {
        // Without the waits for a permit and for a turn, which are our own.
        let asked = self.asked.take().map_or(took, |asked| asked.elapsed());
        let since_first = self.first_event.map_or(Duration::ZERO, |first| {
            self.received.elapsed().saturating_sub(first)
        });
        let first = asked.saturating_sub(since_first);
        let in_flight = || target.provider.permits_in_use();
        let governor = target.provider.governor();
        let (bear, turned) = governor.ended(&target.breaker, ticket, outcome, first, in_flight);
        if let Some(calls) = bear {
            target.provider.bear(calls);
        }
        if let Some(state) = turned {
            self.tell_breaker(target, state, how);
        }
        ::log::debug!(
            request_id = self.request_id.as_str(), coordinator = self.coordinator.name(),
            provider = target.provider.name(), model = target.model.as_str(),
            attempt = self.attempts, outcome = outcome.as_str(), how,
            duration_ms = took.as_secs_f64() * 1000.0;
            "attempt ended"
        );
        // A call that is answered at once has no path to speak of.
        let is_told = outcome != Outcome::Ok || !self.path.is_empty();
        if is_told && self.path.len() < PATH_BYTES_MAX {
            let separator = if self.path.is_empty() { "" } else { " " };
            let (provider, model) = (target.provider.name(), &target.model);
            self.path
                .push_str(&format!("{separator}{provider}/{model}:{how}"));
        }
        if outcome == Outcome::Ok {
            let process = &self.coordinator.process;
            process.admit_model(target.provider.name(), &target.model);
        }
        let metrics = self.provider_metrics(target);
        // From when it was sent: what it waited for before is no time of the provider's.
        metrics.settle(outcome, asked);
        metrics
    }

    /// Says that a breaker has opened or closed.
    fn tell_breaker(&self, target: &Target, state: State, how: &str) {
        let (provider, model) = (target.provider.name(), target.model.as_str());
        let request_id = self.request_id.as_str();
        match state {
            State::Closed => ::log::info!(
                request_id, provider, model;
                "circuit breaker closed: the model answers again"
            ),
            State::Open | State::HalfOpen => ::log::warn!(
                request_id, provider, model, how;
                "circuit breaker open: calls to the model failed, the last one with {how}"
            ),
        }
    }

    /// The attempt at hand was not made after all: its turn would have come too late.
    pub fn not_sent(&mut self) {
        self.ticket = None;
        self.attempts = self.attempts.saturating_sub(1);
    }

    fn provider_metrics(&self, target: &Target) -> Arc<ProviderMetrics> {
        let process = &self.coordinator.process;
        process.provider(target.provider.name(), &target.model)
    }

    /// Counts a second request beside a slow one.
    pub fn hedged(&self, target: &Target, outcome: &'static str) {
        self.provider_metrics(target).shared().hedged(outcome);
    }
}
