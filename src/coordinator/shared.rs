//! Answers that other instances have, or are getting just now.
//!
//! A worker that has a call to ask for looks at the cache that instances share first, and takes the
//! claim on its key, so that equal calls at several instances are one call to the provider. Looking
//! takes the shared cache's own time-out at most. Only while another instance is asking for the
//! same answer does a worker wait longer, ten seconds at most, and never more than a quarter of
//! them. No call fails by any of it. Start at [`ask_others`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::answers::Answers;
use super::call::Call;
use super::caller::Caller;
use super::ledger::Ledger;
use super::terms::Terms;
use crate::cache::{Entry, codec};
use crate::metrics::Cached;
use crate::provider::shared_cache::{Claim, Found, SharedCache, Token};

/// How long a caller waits for another instance.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// The same of a stream's caller: the answer of another instance comes at its end only.
const STREAM_WAIT_MAX: Duration = Duration::from_secs(1);
/// How long a claim holds that is not given back, its holder having died: others wait in vain for
/// as long, and those whose answer takes longer are asked for twice.
const CLAIM_MAX: Duration = Duration::from_secs(30);
/// Of a coordinator's workers so many may wait for other instances: one of so many, and at least
/// one.
const WAITERS_SHARE: usize = 4;

/// What is to be done with a call.
pub(super) enum Looked {
    /// It is to be asked here; others wait for its answer for as long as this is held.
    Ours(Box<Call>, Option<Token>),
    /// It is answered.
    Given,
}

/// Looks for the answer of a call that leads a flight at the other instances.
pub(super) fn ask_others(mut call: Box<Call>) -> Looked {
    let answers = Arc::clone(call.coordinator.answers());
    let (Some(shared), Caller::Lead(lead)) = (answers.shared(), &call.caller) else {
        return Looked::Ours(call, None);
    };
    let Some(terms) = lead.terms().filter(|terms| terms.may_read) else {
        return Looked::Ours(call, None);
    };
    let (found, token) = look(shared, &terms, &call);
    let Some(entry) = found.and_then(|bytes| recall(&answers, &terms, &call, &bytes)) else {
        return Looked::Ours(call, token);
    };
    call.cached = Cached::Hit;
    let mut ledger = Ledger::of(&call);
    lead.watch(&mut ledger);
    ledger.streamed = terms.shape.is_stream();
    let Caller::Lead(lead) = call.caller else {
        return Looked::Ours(call, token);
    };
    match lead.give(&mut ledger, &entry) {
        Ok(()) => Looked::Given,
        Err(lead) => {
            let (caller, cached) = (Caller::Lead(lead), Cached::Miss);
            let call = Box::new(Call {
                caller,
                cached,
                ..*call
            });
            Looked::Ours(call, token)
        }
    }
}

/// What the others have, or the claim on it.
fn look(shared: &SharedCache, terms: &Terms, call: &Call) -> (Option<Vec<u8>>, Option<Token>) {
    let key = terms.key.as_bytes();
    if !terms.coalesces {
        return match shared.get(key) {
            Found::Hit(bytes) => (Some(bytes), None),
            Found::Miss | Found::Unavailable => (None, None),
        };
    }
    let now = Instant::now();
    let left = call.deadline.saturating_duration_since(now);
    // What is left after the wait must do for the call.
    let patience = match terms.shape.is_stream() {
        true => STREAM_WAIT_MAX.min(left / 4),
        false => WAIT_MAX.min(left / 4),
    };
    match shared.claim(key, left.min(CLAIM_MAX)) {
        Claim::Found(bytes) => (Some(bytes), None),
        Claim::Mine(token) => (None, Some(token)),
        Claim::Unavailable => (None, None),
        Claim::Others => {
            let waiting = &call.coordinator.waiting_for_others;
            let most = call.coordinator.config.max_concurrent.get() / WAITERS_SHARE;
            let found = (waiting.fetch_add(1, Ordering::Relaxed) < most.max(1))
                .then(|| shared.wait(key, now + patience, call.caller.cancel()));
            waiting.fetch_sub(1, Ordering::Relaxed);
            (found.flatten(), None)
        }
    }
}

/// The entry that another instance has put, taken into this one's cache; `None` if it is damaged,
/// too old, or was cleared here.
fn recall(answers: &Answers, terms: &Terms, call: &Call, bytes: &[u8]) -> Option<Arc<Entry>> {
    let now = Instant::now();
    let entry = Arc::new(codec::decode(&terms.key, bytes, now, SystemTime::now())?);
    let coordinator = call.coordinator.name();
    let clears = answers.clears().count();
    if answers.clears().covers(coordinator, entry.created_at) {
        return None;
    }
    let is_young = terms.age_max.is_none_or(|most| entry.age(now) <= most);
    let own = answers.cache().peek(&terms.key, now);
    if own.is_none_or(|own| own.created < entry.created) {
        answers.take_in(&entry, terms.owner, clears);
    }
    is_young.then_some(entry)
}

/// Gives other instances an answer.
pub(super) fn put(shared: &SharedCache, entry: &Entry) {
    let mut bytes = Vec::new();
    codec::encode(entry, &mut bytes);
    shared.put(entry.key.as_bytes(), &bytes, entry.ttl());
}
