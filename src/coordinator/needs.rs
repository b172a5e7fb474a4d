//! What a call needs of a target, and what a route's targets can do.
//!
//! Nothing is looked for in a body unless a target of the route is known to lack it.

use std::time::Instant;

use super::call::Decoded;
use super::itinerary::{self, Able, Candidate, Needs};
use super::stages::CallParts;
use crate::provider::route::{Route, Target};
use crate::wire::json::view::View;
use crate::wire::{Endpoint, estimate};

/// A turn holds parts, a tool's result among them holds parts of its own.
const PART_DEPTH_MAX: u32 = 2;

/// What the call needs, as far as any target of its route may lack it.
pub(super) fn of(call: &CallParts, decoded: &Decoded) -> Needs {
    let targets = &decoded.route.targets;
    let body = &call.request.body;
    let any = |of: fn(&Target) -> bool| targets.iter().any(of);
    let text = || View::new(str::from_utf8(body).unwrap_or_default());
    Needs {
        context_tokens: any(|it| it.context_tokens.is_some()).then(|| context_tokens(text())),
        tools: any(|it| it.tools == Some(false)) && has_tools(text()),
        images: any(|it| it.images == Some(false)) && has_images(text()),
        streaming: decoded.scanned.stream && call.endpoint.streams(),
    }
}

/// The route's targets as the itinerary knows them.
pub(super) fn candidates(route: &Route, asked: Endpoint) -> Vec<Candidate> {
    let candidates = route.targets.iter().map(|target| Candidate {
        rank: target.rank,
        weight: target.weight,
        able: Able {
            endpoint: target.provider.endpoint_for(asked).is_some(),
            context_tokens: target.context_tokens,
            tools: target.tools,
            images: target.images,
            streaming: target.streaming,
        },
    });
    candidates.collect()
}

/// What each target looks like now.
pub(super) fn views(route: &Route, now: Instant) -> Vec<itinerary::View> {
    if let [only] = route.targets.as_slice() {
        // There is no choice to be made: a rate limit says so when its turn is waited for.
        return vec![itinerary::View {
            shut_until: only.breaker.shut_until(now),
            next_free: now,
            in_flight: 0,
        }];
    }
    let views = route.targets.iter().map(|target| itinerary::View {
        shut_until: target.breaker.shut_until(now),
        next_free: target.provider.governor().next_free(&target.pace, now),
        in_flight: target.provider.permits_in_use(),
    });
    views.collect()
}

/// An estimate of the prompt, and what the answer may take.
fn context_tokens(body: View<'_>) -> u64 {
    let answer = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
    let answer = answer.iter().find_map(|key| body.get(key)?.u64());
    estimate::input_tokens(body).saturating_add(answer.unwrap_or(0))
}

fn has_tools(body: View<'_>) -> bool {
    let tools = body.get("tools").or_else(|| body.get("functions"));
    tools.is_some_and(|tools| tools.items().next().is_some())
}

/// Whether a part of the conversation, of any dialect, is an image.
fn has_images(body: View<'_>) -> bool {
    let turns = body.get("messages").or_else(|| body.get("input"));
    turns.is_some_and(|turns| {
        turns
            .items()
            .any(|turn| is_or_holds_image(turn, PART_DEPTH_MAX))
    })
}

/// A turn's parts, and the parts of a tool's result among them.
fn is_or_holds_image(part: View<'_>, depth: u32) -> bool {
    let kind = part.get("type").and_then(View::string);
    if matches!(kind.as_deref(), Some("image" | "image_url" | "input_image")) {
        return true;
    }
    let inside = part.get("content").or_else(|| part.get("output"));
    depth > 0
        && inside.is_some_and(|parts| parts.items().any(|it| is_or_holds_image(it, depth - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_images_and_length_are_seen_in_every_dialect() {
        let tools = |body: &str| has_tools(View::new(body));
        assert!(tools(r#"{"tools":[{}]}"#) && tools(r#"{"functions":[{}]}"#));
        assert!(!tools(r#"{"tools":[]}"#) && !tools(r#"{"tools":null}"#) && !tools("{}"));
        let images = |body: &str| has_images(View::new(body));
        assert!(images(
            r#"{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#
        ));
        assert!(images(
            r#"{"input":[{"role":"user","content":[{"type":"input_image"}]}]}"#
        ));
        assert!(images(
            r#"{"messages":[{"content":[{"type":"tool_result","content":[{"type":"image"}]}]}]}"#
        ));
        assert!(!images(
            r#"{"messages":[{"role":"user","content":"image"}],"tools":[{"name":"image"}]}"#
        ));
        let body = View::new(r#"{"messages":[{"content":"12345678"}],"max_tokens":100}"#);
        assert_eq!(context_tokens(body), 2 + 4 + 100);
    }
}
