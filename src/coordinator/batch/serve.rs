//! What a worker does with a batch: asks for all of it in one call, and gives each its part.
//!
//! Where the provider refuses what it was asked, or its answer cannot be taken apart, the batch is
//! halved and each half asked again, until the one call that is at fault stands alone. What else
//! goes wrong is everybody's. Start at [`run`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::roll::Seat;
use super::{Asked, Batch, Member, Said};
use crate::coordinator::call::{Call, Decoded};
use crate::coordinator::lead::given_up;
use crate::coordinator::ledger::{Ledger, Served};
use crate::coordinator::stages::Work;
use crate::wire::Endpoint;
use crate::wire::embeddings::{self, Single};
use crate::wire::request::scan;
use crate::wire::usage::{self, Usage};

/// One of those that are asked for together.
struct Part {
    seat: Seat,
    asked: Asked,
    single: Single,
}

/// What each is told of an answer: its own part and usage, or `None` if there is none for it.
type Split = Vec<Option<(Vec<u8>, Usage)>>;

/// Runs `call`, the job of `batch`, to its end on the calling worker. Never panics.
pub(in crate::coordinator) fn run(call: &Call, batch: &Arc<Batch>) {
    let all = batch.gather();
    if catch_unwind(AssertUnwindSafe(|| ask_all(call, batch, all.clone()))).is_err() {
        ::log::error!(
            request_id = call.request_id.as_str();
            "a worker panicked in a batch of embeddings; the worker goes on"
        );
    }
    // Whoever is left has been forgotten, which is our fault.
    for seat in all {
        if let Some(member) = batch.roll.take(seat) {
            member.fail(&given_up(), None);
        }
    }
}

/// Asks for all of `seats` together, and again for parts of them where that fails.
fn ask_all(call: &Call, batch: &Arc<Batch>, seats: Vec<Seat>) {
    let mut groups = vec![seats];
    while let Some(seats) = groups.pop() {
        let group = batch.roll.present(&seats, |seat, member| Part {
            seat,
            asked: member.asked.clone(),
            single: member.single.clone(),
        });
        if group.is_empty() {
            continue;
        }
        let again = ask(call, batch, &group);
        if again.len() < 2 || again.len() < group.len() {
            groups.extend((!again.is_empty()).then_some(again));
            continue;
        }
        let (first, second) = again.split_at(again.len() / 2);
        groups.push(second.to_vec());
        groups.push(first.to_vec());
    }
}

/// Asks for `group` in one call and answers; returns who has to be asked for again.
fn ask(call: &Call, batch: &Arc<Batch>, group: &[Part]) -> Vec<Seat> {
    let seats = || group.iter().map(|part| part.seat).collect();
    let Some(asked) = merged(group) else {
        return seats();
    };
    let bytes = asked.request.body.len();
    let mut work = Work::of_batch(call, batch, asked);
    if group.len() > 1 {
        work.accounted.add(bytes);
    }
    if catch_unwind(AssertUnwindSafe(|| work.execute())).is_err() {
        ::log::error!(
            request_id = call.request_id.as_str();
            "a worker panicked in a call for {} embeddings; the worker goes on", group.len()
        );
    }
    let outcome = Outcome {
        batch,
        calls: group.len(),
        ledger: &work.ledger,
        served: work.ledger.served(),
    };
    let said = batch.said.lock().take();
    match said {
        Some(Said::Whole {
            status: status @ ..400,
            content_type,
            body,
        }) => outcome.hand_out(group, status, &content_type, split(call, group, body)),
        Some(said) if group.len() > 1 && is_about_some(said.status()) => outcome.ask_again(seats()),
        Some(said) => {
            outcome.tell(seats(), &said);
            Vec::new()
        }
        // All have left, or a panic of ours has answered nobody.
        None => Vec::new(),
    }
}

/// What came of asking for several in one call.
struct Outcome<'a> {
    batch: &'a Batch,
    calls: usize,
    /// Of the call, settled.
    ledger: &'a Ledger,
    served: Served,
}

impl Outcome<'_> {
    /// Gives each its part; returns those for which there is none.
    fn hand_out(&self, group: &[Part], status: u16, content_type: &str, split: Split) -> Vec<Seat> {
        let answered = split.iter().flatten().count();
        if answered > 0 {
            self.ledger.count_merged(answered);
        }
        let mut again = Vec::new();
        for (part, own) in std::iter::zip(group, split) {
            let Some((body, usage)) = own else {
                again.push(part.seat);
                continue;
            };
            if let Some(mut member) = self.batch.roll.take(part.seat) {
                member.share(&self.served, self.calls);
                member.respond(status, content_type, body, usage);
            }
        }
        self.ask_again(again)
    }

    /// Has those that are still there remember what they were asked for in vain.
    fn ask_again(&self, seats: Vec<Seat>) -> Vec<Seat> {
        let share = |_, member: &mut Member| member.share(&self.served, self.calls);
        self.batch.roll.present(&seats, share);
        seats
    }

    /// Tells all the same.
    fn tell(&self, seats: Vec<Seat>, said: &Said) {
        let ended = self.ledger.ended();
        for seat in seats {
            if let Some(mut member) = self.batch.roll.take(seat) {
                member.share(&self.served, self.calls);
                member.tell(said, &ended);
            }
        }
    }
}

/// Whether a failure can be the fault of some of those that were asked for together: the provider
/// refuses a text, or all of them are too much for it.
const fn is_about_some(status: u16) -> bool {
    matches!(status, 400 | 413 | 422)
}

/// The one call for all of `group`; for one alone, its own as it came. `None`: there is no such
/// call.
fn merged(group: &[Part]) -> Option<Asked> {
    let (first, others) = group.split_first()?;
    if others.is_empty() {
        return Some(first.asked.clone());
    }
    let bodies: Vec<_> = group
        .iter()
        .map(|part| (part.asked.request.body.as_slice(), &part.single))
        .collect();
    let body = embeddings::merge(&bodies);
    let decoded = Decoded {
        scanned: scan(&body).ok()?,
        route: Arc::clone(&first.asked.decoded.route),
    };
    let deadlines = group.iter().map(|part| part.asked.deadline);
    Some(Asked {
        request: Arc::new(first.asked.request.with_body(body)),
        decoded: Arc::new(decoded),
        // Who has less time leaves when it is over.
        deadline: deadlines.max()?,
    })
}

/// Takes an answer to `group` apart, on several processors if it is long.
fn split(call: &Call, group: &[Part], body: Vec<u8>) -> Split {
    let usage = |body: &[u8]| usage::of_answer(Endpoint::Embeddings, body).unwrap_or_default();
    if group.len() == 1 {
        let usage = usage(&body);
        return vec![Some((body, usage))];
    }
    let weights: Vec<u64> = group.iter().map(|part| part.single.weight()).collect();
    let parts = match embeddings::split(&body, &weights) {
        Ok(parts) => parts,
        Err(error) => {
            ::log::warn!(
                request_id = call.request_id.as_str();
                "the answer to {} embeddings cannot be taken apart, they are asked for again in \
                 halves: {error}",
                group.len()
            );
            return group.iter().map(|_| None).collect();
        }
    };
    let compute = call.coordinator.compute();
    compute.map(parts.len(), body.len(), |index| {
        let part = parts.part(index).ok()?;
        let usage = usage(&part);
        Some((part, usage))
    })
}
