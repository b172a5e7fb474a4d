//! How a provider is spoken to, beyond its dialect: what its server understands of it.

use super::super::checked::{Kind, Speech, StructuredOutput};
use super::super::raw::{Map, Raw};
use super::super::scalar::Bounds;

/// Reads the keys of one provider. `is_vendor`: it is the vendor's own server, which knows all of
/// its dialect.
pub(super) fn speech(raw: &mut Raw<'_>, map: &mut Map<'_>, kind: Kind, is_vendor: bool) -> Speech {
    let default = Speech::of(kind, is_vendor);
    let most = Bounds::count(1, 10_000_000);
    let tokens = default.default_max_tokens as usize;
    let names = [StructuredOutput::Native, StructuredOutput::Tool].map(|it| (it.as_str(), it));
    Speech {
        responses: raw.boolean(map, "responses", default.responses),
        default_max_tokens: raw.count(map, "default_max_tokens", tokens, most) as u64,
        structured_output: raw
            .choice(map, "structured_output", &names)
            .unwrap_or(default.structured_output),
        sampling: raw.boolean(map, "sampling", default.sampling),
    }
}
