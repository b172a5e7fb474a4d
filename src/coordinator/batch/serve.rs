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
use crate::coordinator::ledger::{Ended, Served};
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

/// What came of asking for some of a batch.
struct Outcome {
    /// `None`: nobody is left who could be told.
    said: Option<Said>,
    served: Served,
    ended: Ended,
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
    let calls = group.len();
    let bytes = asked.request.body.len();
    let mut work = Work::of_batch(call, batch, asked);
    if calls > 1 {
        work.accounted.add(bytes);
    }
    let ran = catch_unwind(AssertUnwindSafe(|| work.execute()));
    let outcome = Outcome {
        said: batch.said.lock().take(),
        served: work.ledger.served(),
        ended: work.ledger.ended(),
    };
    if ran.is_err() {
        ::log::error!(
            request_id = call.request_id.as_str();
            "a worker panicked in a call for {calls} embeddings; the worker goes on"
        );
    }
    let is_success = |said: &Said| matches!(said, Said::Whole { status: ..400, .. });
    match &outcome.said {
        Some(said) if !is_success(said) && calls > 1 && is_about_some(said.status()) => {
            let share = |_, member: &mut Member| member.share(&outcome.served, calls);
            batch.roll.present(&seats(), share);
            seats()
        }
        Some(Said::Whole {
            status: status @ ..400,
            content_type,
            body,
        }) => {
            let split = split(call, group, body);
            let answered = split.iter().flatten().count();
            if answered > 0 {
                work.ledger.count_merged(answered);
            }
            let mut again = Vec::new();
            for (part, own) in std::iter::zip(group, split) {
                let Some((body, usage)) = own else {
                    let share = |_, member: &mut Member| member.share(&outcome.served, calls);
                    batch.roll.present(&[part.seat], share);
                    again.push(part.seat);
                    continue;
                };
                if let Some(mut member) = batch.roll.take(part.seat) {
                    member.share(&outcome.served, calls);
                    member.respond(*status, content_type, body, usage);
                }
            }
            again
        }
        Some(said) => {
            for seat in seats() {
                if let Some(mut member) = batch.roll.take(seat) {
                    member.share(&outcome.served, calls);
                    member.tell(said, &outcome.ended);
                }
            }
            Vec::new()
        }
        // All have left, or a panic of ours has answered nobody.
        None => Vec::new(),
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
fn split(call: &Call, group: &[Part], body: &[u8]) -> Split {
    let usage = |body: &[u8]| usage::of_answer(Endpoint::Embeddings, body).unwrap_or_default();
    if group.len() == 1 {
        return vec![Some((body.to_vec(), usage(body)))];
    }
    let weights: Vec<u64> = group.iter().map(|part| part.single.weight()).collect();
    let parts = match embeddings::split(body, &weights) {
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
