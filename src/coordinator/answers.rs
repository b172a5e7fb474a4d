//! The answers that calls share: from the cache, or on their way.
//!
//! Every call comes by here, on a front thread if its body is small, else on a worker. It is
//! answered from the cache, or waits for the answer of an equal call, or goes on to be asked as the
//! one that others may wait for. Start at [`Answers::consult`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use super::call::Call;
use super::caller::Caller;
use super::clears::Clears;
use super::evictions::Evictions;
use super::flight::{Flight, Joined};
use super::ledger::Ledger;
use super::replay::{self, Given};
use super::shared;
use super::terms::{Policy, Shape, Terms};
use crate::cache::{Body, Cache, Cost, Entry, Key, Owner, Swept};
use crate::cancel::Reason;
use crate::config::CheckedConfig;
use crate::config::checked::{self, Price};
use crate::metrics::Cached;
use crate::provider::shared_cache::SharedCache;
use crate::sync::Mutex;
use crate::wire::errors::ApiError;

/// A front thread converts no answer that is bigger than this.
const CONVERTED_ON_FRONT_BYTES_MAX: usize = 256 << 10;

/// What the coordinators share of their answers. One of a process.
pub struct Answers {
    config: checked::Cache,
    /// What models cost, by provider and model.
    prices: HashMap<String, BTreeMap<String, Price>>,
    cache: Arc<Cache>,
    /// Where answers are shared with other instances, if anywhere.
    shared: Option<Arc<SharedCache>>,
    /// Equal calls that are under way, by what they share: at most one for each connection.
    flights: Mutex<HashMap<Key, Arc<Flight>>>,
    /// Flights that have ended.
    landed: AtomicU64,
    clears: Clears,
    evictions: Evictions,
    /// Calls that wait for others' answers.
    pub(super) followers: AtomicI64,
}

/// An answer that was found in the cache.
pub(super) struct Found {
    pub entry: Arc<Entry>,
    /// Whether it has more than was asked for.
    pub is_richer: bool,
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
    pub fn new(config: &CheckedConfig, shared: Option<Arc<SharedCache>>) -> Arc<Self> {
        let prices = config.providers.iter();
        let prices = prices.map(|(name, provider)| (name.clone(), provider.prices.clone()));
        let prices = prices.collect();
        let config = &config.cache;
        Arc::new(Self {
            cache: Arc::new(Cache::new(config, Instant::now())),
            config: config.clone(),
            prices,
            shared,
            flights: Mutex::new("answers.flights", HashMap::new()),
            landed: AtomicU64::new(0),
            clears: Clears::new(),
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

    /// Says in the log what has left the cache and was not said yet.
    pub fn flush_evictions(&self) {
        self.evictions.flush();
    }

    /// Takes all answers out of the cache, or those of one coordinator. What is on its way by now
    /// is not kept, and what other instances have from before is not taken from them.
    pub fn clear(&self, coordinator: Option<&str>) -> Swept {
        self.clears.note(coordinator, SystemTime::now());
        match coordinator {
            None => self.cache.clear(),
            Some(name) => self.cache.remove_coordinator(name),
        }
    }

    /// What has been cleared.
    pub(super) const fn clears(&self) -> &Clears {
        &self.clears
    }

    /// What tokens of that model cost in dollars; 0 where that is not configured.
    pub(super) fn cost(&self, provider: &str, model: &str, tokens: (u64, u64)) -> f64 {
        let price = self.prices.get(provider).and_then(|all| all.get(model));
        price.map_or(0.0, |price| price.of(tokens.0, tokens.1))
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
        call.cached = match terms.may_read {
            true => Cached::Miss,
            false => Cached::Refresh,
        };
        let mut landed = self.landed.load(Ordering::Acquire);
        let now = Instant::now();
        if let Some(found) = self.find(&terms, now) {
            return self.give(call, &terms, &found, on, now);
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
            if let Some(found) = self.find(&terms, now) {
                return self.give(call, &terms, &found, on, now);
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
                owner: call.coordinator.owner,
            },
            call.endpoint,
            &decoded.scanned,
            &call.request,
            &decoded.route.identity,
            &call.scope,
        )
    }

    /// An answer that may be given again.
    fn find(&self, terms: &Terms, now: Instant) -> Option<Found> {
        if !terms.may_read {
            return None;
        }
        let young = |key: &Key| {
            let entry = self.cache.get(key, now);
            entry.filter(|entry| terms.age_max.is_none_or(|most| entry.age(now) <= most))
        };
        let own = young(&terms.key).map(|entry| Found {
            entry,
            is_richer: false,
        });
        own.or_else(|| {
            Some(Found {
                entry: young(terms.richer.as_ref()?)?,
                is_richer: true,
            })
        })
    }

    /// Answers with what was found. Where that would take long, a worker has to.
    fn give(
        self: &Arc<Self>,
        mut call: Box<Call>,
        terms: &Terms,
        found: &Found,
        on: On,
        now: Instant,
    ) -> Option<Box<Call>> {
        let entry = &found.entry;
        let is_long = entry.body.as_bytes().len() > CONVERTED_ON_FRONT_BYTES_MAX;
        if on == On::Front && is_long && replay::converts(terms.shape, found) {
            call.is_looked_up = false;
            return Some(call);
        }
        // Too late to share it on its way, and told so where answers are not kept longer.
        let is_late = terms.is_window && entry.age(Instant::now()) <= self.config.coalescing_window;
        call.cached = match is_late {
            true => Cached::Coalesced,
            false => Cached::Hit,
        };
        match replay::give(call, terms.shape, found, now) {
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

    /// Keeps a complete answer, unless answers were cleared since it was asked for, `clears` times
    /// by then; returns it as it is kept.
    pub(super) fn keep(
        &self,
        clears: u64,
        terms: &Terms,
        ledger: &Ledger,
        content_type: &str,
        body: Body,
    ) -> Arc<Entry> {
        let now = Instant::now();
        let usage = ledger.usage;
        let entry = Arc::new(Entry {
            key: terms.key,
            expires: Entry::end(now, terms.ttl),
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
            cost: Cost {
                tokens: usage.input.unwrap_or(0) + usage.output.unwrap_or(0),
                time: ledger.spent,
            },
        });
        self.take_in(&entry, terms.owner, clears);
        entry
    }

    /// Gives other instances what was kept.
    pub(super) fn share(&self, entry: &Entry) {
        if let Some(shared) = &self.shared {
            shared::put(shared, entry);
        }
    }

    /// Puts an answer into the cache, unless answers were cleared since it was asked for, `clears`
    /// times by then.
    pub(super) fn take_in(&self, entry: &Arc<Entry>, owner: Owner, clears: u64) {
        if self.clears.count() != clears {
            return;
        }
        let now = Instant::now();
        let evicted = self.cache.insert(Arc::clone(entry), owner, now);
        self.evictions.tell(&evicted);
        // A clear that has missed it was counted before it came to the shard, and is seen now.
        if self.clears.count() != clears {
            self.cache.remove(&entry.key);
        }
    }
}

impl Call {
    /// Has a caller that is alone and waits for a stream kept from being cut off as idle.
    pub(super) fn keep_alive(&mut self) {
        if let (Some(decoded), Some(responder)) = (&self.decoded, self.caller.alone()) {
            let (scanned, id) = (&decoded.scanned, &self.request_id);
            let coordinator = &self.coordinator;
            coordinator.keep_alive(self.endpoint, scanned, id, responder);
        }
    }

    /// Has its caller told, once its deadline has passed, by whatever is attached to it then.
    pub(super) fn expire_by_itself(&mut self) {
        if std::mem::replace(&mut self.is_timed, true) {
            return;
        }
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
