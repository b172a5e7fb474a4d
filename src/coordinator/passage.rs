//! How a call's body gets to a target: as it is where both speak the same dialect, translated
//! where they do not.
//!
//! A call of OpenAI's responses may go on with an earlier one; where the provider keeps no
//! conversations itself, the store has them, and the translated call brings all of it along.

use std::collections::BTreeSet;
use std::time::Instant;

use super::call::Decoded;
use crate::clock;
use crate::config::checked::StructuredOutput as Configured;
use crate::provider::route::Target;
use crate::store::{Kept, Scope, Store, StoreError};
use crate::wire::Endpoint;
use crate::wire::errors::{ApiError, Kind};
use crate::wire::json::view::View;
use crate::wire::request::with_model;
use crate::wire::responses;
use crate::wire::translate::{self, Plan, StructuredOutput, Translated};

/// Responses whose items one call may refer to: each is looked up by itself.
const REFERENCED_MAX: usize = 100;
/// And what these hold together.
const REFERENCED_BYTES_MAX: usize = 64 << 20;

/// What of a call its translation needs.
pub struct Question<'a> {
    pub caller: Endpoint,
    pub body: &'a [u8],
    pub store: &'a Store,
    pub scope: &'a Scope,
    pub deadline: Instant,
    /// Whether nothing may be lost.
    pub strict: bool,
}

/// A call as one target is asked it.
pub struct Passage {
    /// Where the provider is asked.
    pub endpoint: Endpoint,
    /// Where that is another dialect than the caller's.
    translated: Option<Translated>,
}

impl Passage {
    /// The way to `target`, which is asked at `endpoint`.
    ///
    /// # Errors
    /// The call cannot be said in the target's dialect, or not without a loss, or goes on with a
    /// conversation that is not here. Another target may take it.
    pub fn new(
        question: &Question<'_>,
        target: &Target,
        endpoint: Endpoint,
    ) -> Result<Self, ApiError> {
        let translated = match endpoint == question.caller {
            true => None,
            false => Some(question.translate(target, endpoint)?),
        };
        Ok(Self {
            endpoint,
            translated,
        })
    }

    /// The body to send, in pieces.
    pub fn body<'b>(
        &'b self,
        body: &'b [u8],
        decoded: &'b Decoded,
        target: &'b Target,
    ) -> [&'b [u8]; 3] {
        match &self.translated {
            None => with_model(body, &decoded.scanned.model_span, &target.model_json),
            Some(translated) => [&translated.body, b"", b""],
        }
    }

    /// The names of what the provider is not told; empty if that is nothing.
    pub fn dropped(&self) -> String {
        let translated = self.translated.as_ref();
        translated.map_or_else(String::new, |it| it.dropped.to_string())
    }

    /// How the answer comes back, where it has to be translated. The body has been sent and is
    /// let go.
    pub fn into_plan(self) -> Option<Plan> {
        self.translated.map(|translated| translated.plan)
    }
}

impl Question<'_> {
    fn translate(&self, target: &Target, endpoint: Endpoint) -> Result<Translated, ApiError> {
        // It was scanned before, which holds it to UTF-8.
        let text = str::from_utf8(self.body).unwrap_or_default();
        let past = match self.caller {
            Endpoint::Responses => self.past(View::new(text))?,
            _ => Past::default(),
        };
        let past = past.items();
        let speech = target.provider.speech();
        let target = translate::Target {
            model: &target.model,
            default_max_tokens: speech.default_max_tokens,
            sampling: speech.sampling,
            structured_output: match speech.structured_output {
                Configured::Native => StructuredOutput::Native,
                Configured::Tool => StructuredOutput::Tool,
            },
        };
        let translated = translate::request(self.caller, endpoint, text, &past, &target)?;
        if self.strict && !translated.dropped.is_empty() {
            let message = format!(
                "the provider's API has no counterpart for {}; leave it out, ask for a model of \
                 the other vendor, or let the operator set `strict: false` on the coordinator",
                translated.dropped
            );
            return Err(ApiError::new(Kind::InvalidRequest, message).code("not_translatable"));
        }
        Ok(translated)
    }

    /// What a call of [`Endpoint::Responses`] goes on with.
    fn past(&self, body: View<'_>) -> Result<Past, ApiError> {
        let asked = responses::read_asked(body)?;
        match asked.previous {
            Some(previous) => Ok(Past {
                kept: self.conversation(&previous)?,
                only: None,
            }),
            None => self.referenced(body),
        }
    }

    /// The calls that led to the response `previous`, oldest first.
    fn conversation(&self, previous: &str) -> Result<Vec<Kept>, ApiError> {
        let found = self
            .store
            .conversation(previous, self.scope, self.deadline)
            .map_err(|error| unavailable(&error))?;
        found.ok_or_else(|| {
            let message = format!(
                "there is no response '{}' here to go on with: it has expired, was made with \
                 `store: false`, by another key or somewhere else; send the conversation in `input`",
                &previous[..previous.floor_char_boundary(64)]
            );
            ApiError::new(Kind::InvalidRequest, message)
                .param("previous_response_id")
                .code("previous_response_not_found")
        })
    }

    /// The responses whose items a call refers to without going on with any: some clients send the
    /// conversation so. One that is not there is for whoever reads the request to refuse, at the
    /// place of the reference.
    fn referenced(&self, body: View<'_>) -> Result<Past, ApiError> {
        let items: BTreeSet<String> = responses::referenced_items(body).into_iter().collect();
        let ids: BTreeSet<String> = items
            .iter()
            .filter_map(|item| responses::response_of(item))
            .collect();
        if ids.len() > REFERENCED_MAX {
            let message = format!(
                "the input refers to items of {} responses, more than {REFERENCED_MAX}; go on from \
                 the last one with previous_response_id",
                ids.len()
            );
            return Err(ApiError::new(Kind::InvalidRequest, message).param("input"));
        }
        let mut kept = Vec::new();
        for id in ids {
            let found = self.store.response(&id, self.scope, self.deadline);
            kept.extend(found.map_err(|error| unavailable(&error))?);
            let bytes: usize = kept.iter().map(|it| it.input.len() + it.body.len()).sum();
            if bytes > REFERENCED_BYTES_MAX {
                return Err(unavailable(&StoreError::TooLong));
            }
        }
        Ok(Past {
            kept,
            only: Some(items),
        })
    }
}

/// What a call goes on with.
#[derive(Default)]
struct Past {
    kept: Vec<Kept>,
    /// The ids of the items that count; `None`: all of them, each call's own and what was answered.
    only: Option<BTreeSet<String>>,
}

impl Past {
    fn items(&self) -> Vec<View<'_>> {
        let view = |bytes| View::new(str::from_utf8(bytes).unwrap_or_default());
        let items = self.kept.iter().flat_map(|kept| {
            let asked = view(&kept.input).items();
            asked.chain(responses::output_items(view(&kept.body)))
        });
        let counts = |item: &View<'_>| {
            self.only.as_ref().is_none_or(|only| {
                let id = item.get("id").and_then(View::string);
                id.is_some_and(|id| only.contains(id.as_ref()))
            })
        };
        items.filter(counts).collect()
    }
}

/// What a caller is told where the store does not answer.
pub fn unavailable(error: &StoreError) -> ApiError {
    if *error == StoreError::TooLong {
        let message = format!("{error}; begin a new one");
        return ApiError::new(Kind::InvalidRequest, message).code("conversation_too_long");
    }
    let message = format!("kept responses cannot be had now: {error}; try again later");
    ApiError::new(Kind::Overloaded, message).code("store_unavailable")
}

/// Keeps a response for later calls to go on with, if its caller lets it be kept.
pub fn keep(question: &Question<'_>, response_id: &str, response: &[u8]) {
    let text = str::from_utf8(question.body).unwrap_or_default();
    let view = View::new(text);
    let (Ok(asked), Ok(input)) = (responses::read_asked(view), responses::input_items(view)) else {
        return;
    };
    if !asked.store {
        return;
    }
    // A failure is the store's to count and to report: the call itself has succeeded.
    let _ = question.store.keep(Kept {
        id: response_id.to_owned(),
        previous: asked.previous,
        scope: *question.scope,
        created: clock::unix_seconds(),
        input,
        body: response.to_vec(),
    });
}

/// An id that no other response has.
pub fn new_response_id() -> String {
    let (high, low) = (fastrand::u128(..), fastrand::u64(..));
    format!("resp_{high:032x}{low:016x}")
}
