//! Brings calls together that can be asked for in one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::roll::{Bounds, FIRST, Joined, Roll};
use super::{Asked, Batch, Member};
use crate::cancel::Cancel;
use crate::config::checked::Batching;
use crate::coordinator::Coordinator;
use crate::coordinator::call::Call;
use crate::coordinator::caller::Caller;
use crate::coordinator::ledger::Ledger;
use crate::coordinator::ready::ANSWER_HEADERS;
use crate::front::Request;
use crate::metrics::{Accounted, Cached};
use crate::provider::route::Routes;
use crate::store::Scope;
use crate::sync::Mutex;
use crate::wire::Endpoint;
use crate::wire::embeddings::Single;

/// Texts of one call: OpenAI takes no more
/// (platform.openai.com/docs/api-reference/embeddings/create).
const MEMBERS_MAX: usize = 2048;
/// Bytes of the bodies of one batch. OpenAI takes 300,000 tokens; where tokens are shorter than two
/// bytes it refuses the batch, which is then halved.
const BYTES_MAX: usize = 512 << 10;
/// What keys are made under: another form of them needs another one.
const CONTEXT: &str = "victor 2026 calls of one batch 1";

/// A hash of all that the calls of a batch have in common.
pub(super) type Key = [u8; 32];

/// The batches of a coordinator that calls can join.
pub struct Batcher {
    /// As many as there are calls at workers or in the queue, at most: each has a job there.
    open: Mutex<HashMap<Key, Arc<Batch>>>,
    is_draining: AtomicBool,
}

impl Batcher {
    /// None yet.
    pub fn new() -> Self {
        Self {
            open: Mutex::new("batcher.open", HashMap::new()),
            is_draining: AtomicBool::new(false),
        }
    }

    /// Parks the call in a batch if it can be asked for together with others. Gives back what is
    /// to be queued: the call itself if it cannot, the job of the batch if this call opened one.
    pub fn offer(&self, call: Box<Call>) -> Option<Box<Call>> {
        let Some((batching, single)) = self.terms(&call) else {
            return Some(call);
        };
        let key = key(&call, &single);
        let bytes = call.request.body.len();
        let cancel = Arc::clone(call.caller.cancel());
        let (member, rest) = part(*call, single)?;
        let mut open = self.open.lock();
        let member = match open.get(&key).cloned() {
            None => member,
            Some(batch) => match batch.roll.join(member, bytes) {
                Ok(Joined { seat, is_full }) => {
                    if is_full {
                        open.remove(&key);
                    }
                    drop(open);
                    if is_full {
                        batch.alarm.ring();
                    }
                    batch.watch(seat, &cancel);
                    return None;
                }
                Err(member) => {
                    batch.alarm.ring();
                    member
                }
            },
        };
        let batch = Arc::new(rest.batch(key, batching, member, bytes));
        open.insert(key, Arc::clone(&batch));
        drop(open);
        batch.watch(FIRST, &cancel);
        Some(Box::new(rest.job(batch)))
    }

    /// What there is to know of a call that can be asked for together with others.
    fn terms(&self, call: &Call) -> Option<(Batching, Single)> {
        let target = call.decoded.as_ref()?.route.targets.first()?;
        let batching = target.provider.batching().filter(|it| it.size.get() > 1)?;
        let is_batchable = call.endpoint == Endpoint::Embeddings
            // It names one call, and what is sent is another one.
            && call.request.header("idempotency-key").is_none()
            && !call.caller.cancel().is_cancelled()
            && !self.is_draining.load(Ordering::Relaxed);
        if !is_batchable {
            return None;
        }
        Some((batching, Single::of(&call.request.body)?))
    }

    /// From here on no call finds the batch.
    pub(super) fn forget(&self, batch: &Batch) {
        let mut open = self.open.lock();
        let found = open.get(&batch.key);
        if found.is_some_and(|it| std::ptr::eq(Arc::as_ptr(it), batch)) {
            open.remove(&batch.key);
        }
    }

    /// The daemon drains: no batch waits any longer.
    pub fn hurry(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
        let open: Vec<_> = self.open.lock().drain().collect();
        for (_, batch) in open {
            batch.alarm.ring();
        }
    }
}

/// What is left of a call that became a member: what opens a batch, if there is none.
struct Rest {
    endpoint: Endpoint,
    request: Arc<Request>,
    request_id: String,
    routes: Arc<Routes>,
    coordinator: Arc<Coordinator>,
    scope: Scope,
    deadline: Instant,
}

/// Takes a call apart; `None` if nothing was found in its body.
fn part(call: Call, single: Single) -> Option<(Member, Rest)> {
    let mut ledger = Ledger::of(&call);
    if let Caller::Lead(lead) = &call.caller {
        lead.watch(&mut ledger);
    }
    let request = Arc::new(call.request);
    let member = Member {
        asked: Asked {
            request: Arc::clone(&request),
            decoded: Arc::new(call.decoded?),
            deadline: call.deadline,
        },
        single,
        ledger,
        caller: call.caller,
        _accounted: call.accounted,
    };
    let rest = Rest {
        endpoint: call.endpoint,
        request,
        request_id: call.request_id,
        routes: call.routes,
        coordinator: call.coordinator,
        scope: call.scope,
        deadline: call.deadline,
    };
    Some((member, rest))
}

impl Rest {
    /// A batch of one.
    fn batch(&self, key: Key, batching: Batching, first: Member, bytes: usize) -> Batch {
        let bounds = Bounds {
            members: batching.size.get().min(MEMBERS_MAX),
            bytes: BYTES_MAX,
        };
        let now = Instant::now();
        // What is left of the call's time is the provider's to use.
        let left = self.deadline.saturating_duration_since(now);
        Batch {
            coordinator: Arc::clone(&self.coordinator),
            key,
            cancel: Arc::new(Cancel::new()),
            alarm: Arc::default(),
            until: now + batching.timeout.min(left / 2),
            roll: Roll::of(bounds, first, bytes),
            said: Mutex::new("batch.said", None),
        }
    }

    /// What a worker is given of a batch.
    fn job(self, batch: Arc<Batch>) -> Call {
        Call {
            endpoint: self.endpoint,
            request: self.request.with_body(Vec::new()),
            request_id: self.request_id,
            decoded: None,
            routes: self.routes,
            accounted: Accounted::new(self.coordinator.metrics()),
            coordinator: self.coordinator,
            caller: Caller::Batch(batch),
            cached: Cached::Bypass,
            is_timed: true,
            is_looked_up: true,
            scope: self.scope,
            deadline: self.deadline,
        }
    }
}

/// What a call must have in common with those it is asked for with: where it goes, all of its body
/// but the text, and the headers that the provider is given.
fn key(call: &Call, single: &Single) -> Key {
    let route = call.decoded.as_ref().map(|it| it.route.identity.as_str());
    key_of(route.unwrap_or_default(), single.digest(), &call.request)
}

fn key_of(route: &str, digest: &[u8; 32], request: &Request) -> Key {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    field(route.as_bytes());
    field(digest);
    for name in ANSWER_HEADERS {
        match request.header(name) {
            Some(value) => {
                field(b"+");
                field(value.as_bytes());
            }
            None => field(b"-"),
        }
    }
    *hasher.finalize().as_bytes()
}
