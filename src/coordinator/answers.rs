//! The answers that calls share: from the cache, or on their way.
//!
//! Every call comes by here, on a front thread if its body is small, else on a worker. It is
//! answered from the cache, or waits for the answer of an equal call, or goes on to be asked as the
//! one that others may wait for. Start at [`Answers::consult`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::call::Call;
use super::caller::Caller;
use super::evictions::Evictions;
use super::flight::{Flight, Joined};
use super::ledger::Ledger;
use super::replay::{self, Given};
use super::shared;
use super::terms::{Policy, Shape, Terms};
use crate::cache::{Body, Cache, Cost, Entry, Key};
use crate::cancel::Reason;
use crate::config::checked;
use crate::metrics::Cached;
use crate::provider::shared_cache::SharedCache;
use crate::sync::Mutex;
use crate::wire::errors::ApiError;

/// A front thread converts no answer that is bigger than this.
const CONVERTED_ON_FRONT_BYTES_MAX: usize = 256 << 10;

/// What the coordinators share of their answers. One of a process.
pub struct Answers {
    config: checked::Cache,
    cache: Arc<Cache>,
    /// Where answers are shared with other instances, if anywhere.
    shared: Option<Arc<SharedCache>>,
    /// Equal calls that are under way, by what they share. As many as there are calls at workers
    /// or in queues, at most.
    flights: Mutex<HashMap<Key, Arc<Flight>>>,
    /// Flights that have ended.
    landed: AtomicU64,
    evictions: Evictions,
    /// Calls that wait for others' answers.
    pub(super) followers: AtomicI64,
}

/// Which flight a call is on.
enum Board {
    /// A new one, that it leads.
    Led(Arc<Flight>),
    /// That of an equal call.
    Found(Arc<Flight>),
    /// A flight has ended meanwhile: the cache is to be asked again.
    Again,
}

/// Whose thread it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum On {
    Front,
    Worker,
}

impl Answers {
    /// Nothing yet, within the bounds of `config`.
    pub fn new(config: &checked::Cache, shared: Option<Arc<SharedCache>>) -> Arc<Self> {
        Arc::new(Self {
            cache: Arc::new(Cache::new(config, Instant::now())),
            config: config.clone(),
            shared,
            flights: Mutex::new("answers.flights", HashMap::new()),
            landed: AtomicU64::new(0),
            evictions: Evictions::new(config.eviction_policy),
            followers: AtomicI64::new(0),
        })
    }

    /// The cache.
    pub const fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Where answers are shared with other instances.
    pub const fn shared(&self) -> Option<&Arc<SharedCache>> {
        self.shared.as_ref()
    }

    /// What was configured.
    pub const fn config(&self) -> &checked::Cache {
        &self.config
    }

    /// Calls that wait for the answers of others now.
    pub fn followers(&self) -> i64 {
        self.followers.load(Ordering::Relaxed)
    }

    /// Answers the call, or has it wait for the answer of an equal one; or gives it back to be
    /// asked, with whoever comes to wait for it.
    pub fn consult(self: &Arc<Self>, mut call: Box<Call>, on: On) -> Option<Box<Call>> {
        call.is_looked_up = true;
        let terms = match self.terms(&call) {
            Ok(Some(terms)) => terms,
            Ok(None) => return Some(call),
            Err(error) => {
                let ledger = Ledger::of(&call);
                call.fail(ledger, &error, None);
                return None;
            }
        };
        call.cached = Cached::Miss;
        let mut landed = self.landed.load(Ordering::Acquire);
        let now = Instant::now();
        if let Some(entry) = self.find(&terms, now) {
            return self.give(call, &terms, &entry, on, now);
        }
        if on == On::Front {
            call.expire_by_itself();
        }
        if !terms.coalesces {
            return Some(Flight::new(self, &call, &terms).lead(call));
        }
        loop {
            match self.board(&terms, &call, landed) {
                Board::Led(flight) => return Some(flight.lead(call)),
                Board::Found(flight) => match flight.join(call, &terms) {
                    Joined::Yes => return None,
                    Joined::No(back) => {
                        call = back;
                        call.cached = Cached::Miss;
                        self.forget(&flight);
                    }
                },
                Board::Again => {}
            }
            // A flight has ended since the cache was asked: perhaps this one.
            landed = self.landed.load(Ordering::Acquire);
            let now = Instant::now();
            if let Some(entry) = self.find(&terms, now) {
                return self.give(call, &terms, &entry, on, now);
            }
        }
    }

    fn terms(&self, call: &Call) -> Result<Option<Terms>, ApiError> {
        let Some(decoded) = &call.decoded else {
            return Ok(None);
        };
        Terms::of(
            Policy {
                cache: &self.config,
                coordinator: call.coordinator.config(),
            },
            call.endpoint,
            &decoded.scanned,
            &call.request,
            &decoded.route.identity,
            &call.scope,
        )
    }

    /// An answer that may be given again.
    fn find(&self, terms: &Terms, now: Instant) -> Option<Arc<Entry>> {
        if !terms.may_read {
            return None;
        }
        let own = self.cache.get(&terms.key, now);
        let entry = own.or_else(|| self.cache.get(terms.richer.as_ref()?, now))?;
        let is_young = terms.age_max.is_none_or(|most| entry.age(now) <= most);
        is_young.then_some(entry)
    }

    /// Answers with what was found. Where that would take long, a worker has to.
    fn give(
        self: &Arc<Self>,
        mut call: Box<Call>,
        terms: &Terms,
        entry: &Arc<Entry>,
        on: On,
        now: Instant,
    ) -> Option<Box<Call>> {
        let is_long = entry.body.as_bytes().len() > CONVERTED_ON_FRONT_BYTES_MAX;
        if on == On::Front && is_long && replay::converts(terms.shape, entry) {
            call.is_looked_up = false;
            return Some(call);
        }
        call.cached = match terms.is_window {
            true => Cached::Coalesced,
            false => Cached::Hit,
        };
        match replay::give(call, terms.shape, entry, now) {
            Given::Yes => None,
            // It cannot be said in this shape: the call is asked as if there were no answer.
            Given::No(mut call) => {
                call.cached = Cached::Miss;
                Some(call)
            }
        }
    }

    /// The flight that an equal call is on, or a new one for this call to lead. `landed`: how many
    /// flights had ended before the cache was asked.
    fn board(self: &Arc<Self>, terms: &Terms, call: &Call, landed: u64) -> Board {
        let mut flights = self.flights.lock();
        let own = flights.get(&terms.key);
        let richer = terms.richer.as_ref().and_then(|key| flights.get(key));
        // Events with the usage cannot be told live to one who did not ask for it.
        let richer = richer.filter(|flight| flight.shape() == Shape::Whole);
        if let Some(flight) = own.or(richer) {
            return Board::Found(Arc::clone(flight));
        }
        if self.landed.load(Ordering::Acquire) != landed {
            return Board::Again;
        }
        let flight = Flight::new(self, call, terms);
        flights.insert(terms.key, Arc::clone(&flight));
        Board::Led(flight)
    }

    /// From here on nobody joins the flight. What it came to is in the cache by then.
    pub(super) fn forget(&self, flight: &Arc<Flight>) {
        let mut flights = self.flights.lock();
        let is_it = |known: &Arc<Flight>| Arc::ptr_eq(known, flight);
        if flights.get(flight.key()).is_some_and(is_it) {
            flights.remove(flight.key());
            self.landed.fetch_add(1, Ordering::Release);
        }
    }

    /// Keeps a complete answer; returns it as it is kept. `took`: since the provider was asked.
    pub(super) fn keep(
        &self,
        terms: &Terms,
        ledger: &Ledger,
        content_type: &str,
        body: Body,
        took: Duration,
    ) -> Arc<Entry> {
        let now = Instant::now();
        let usage = ledger.usage;
        let entry = Arc::new(Entry {
            status: 200,
            body,
            content_type: content_type.into(),
            provider: ledger.provider.as_str().into(),
            model: ledger.model.as_str().into(),
            usage,
            upstream_request_id: match ledger.upstream_request_id.as_str() {
                "" => None,
                id => Some(id.into()),
            },
            dropped: ledger.dropped.as_str().into(),
            created: now,
            created_at: SystemTime::now(),
            ttl: terms.ttl,
            cost: Cost {
                tokens: usage.input.unwrap_or(0) + usage.output.unwrap_or(0),
                time: took,
            },
        });
        self.take_in(&terms.key, &entry, ledger.coordinator_name());
        if let Some(shared) = &self.shared {
            shared::put(shared, &terms.key, &entry);
        }
        entry
    }

    /// Puts an answer into the cache.
    pub(super) fn take_in(&self, key: &Key, entry: &Arc<Entry>, coordinator: &str) {
        let now = Instant::now();
        let evicted = self.cache.insert(*key, Arc::clone(entry), coordinator, now);
        self.evictions.tell(&evicted);
    }
}

impl Call {
    /// Has its caller told, once its deadline has passed, by whatever is attached to it then.
    pub(super) fn expire_by_itself(&mut self) {
        let expires = self.deadline + super::DEADLINE_GRACE;
        if let Caller::Alone(responder) = &mut self.caller {
            let cancel = Arc::clone(responder.cancel());
            responder.set_deadline(
                expires,
                Box::new(move || {
                    cancel.cancel(Reason::Deadline);
                }),
            );
        }
    }
}
