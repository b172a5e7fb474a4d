//! What a call needs of a target, and what a route's targets can do.
//!
//! Nothing is looked for in a body unless a target of the route is known to lack it.

use memchr::memmem;

use super::call::Decoded;
use super::itinerary::{Able, Candidate, Needs};
use super::stages::CallParts;
use crate::provider::route::{Route, Target};
use crate::wire::json::view::View;
use crate::wire::{Endpoint, estimate};

/// What the call needs, as far as any target of its route may lack it.
pub(super) fn of(call: &CallParts, decoded: &Decoded) -> Needs {
    let targets = &decoded.route.targets;
    let body = &call.request.body;
    let any = |of: fn(&Target) -> bool| targets.iter().any(of);
    let text = || View::new(str::from_utf8(body).unwrap_or_default());
    Needs {
        context_tokens: any(|it| it.context_tokens.is_some()).then(|| context_tokens(text())),
        tools: any(|it| it.tools == Some(false)) && has_tools(text()),
        images: any(|it| it.images == Some(false)) && has_images(body),
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

/// Whether a part of any dialect that is an image is there; its key or type as bytes, which an
/// escaped quote keeps a text from looking like.
fn has_images(body: &[u8]) -> bool {
    [
        b"\"image_url\"".as_slice(),
        b"\"image\"",
        b"\"input_image\"",
    ]
    .iter()
    .any(|sign| memmem::find(body, sign).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_images_and_length_are_seen_in_every_dialect() {
        let tools = |body: &str| has_tools(View::new(body));
        assert!(tools(r#"{"tools":[{}]}"#) && tools(r#"{"functions":[{}]}"#));
        assert!(!tools(r#"{"tools":[]}"#) && !tools(r#"{"tools":null}"#) && !tools("{}"));
        assert!(has_images(br#"{"type":"image","source":1}"#));
        assert!(!has_images(br#"{"text":"an \"image\" of it"}"#));
        let body = View::new(r#"{"messages":[{"content":"12345678"}],"max_tokens":100}"#);
        assert_eq!(context_tokens(body), 2 + 4 + 100);
    }
}
