//! `GET /v1/models` and `GET /v1/models/{id}`: everything that a caller may ask for, in the
//! shape of whichever SDK asks.

use crate::front::Response;
use crate::provider::route::Routes;
use crate::wire::errors::ApiError;
use crate::wire::{Dialect, anthropic, openai};

/// Who owns a model here, in the shape that has a place for it.
const OWNER: &str = "victor";

/// Answers for the part of the path behind `/v1/models`.
///
/// # Errors
/// 404 for a model that nothing here serves.
pub fn answer(rest: &str, dialect: Dialect, routes: &Routes) -> Result<Response, ApiError> {
    let ids = routes.ids();
    let body = match rest.strip_prefix('/').filter(|id| !id.is_empty()) {
        None if rest.is_empty() || rest == "/" => match dialect {
            Dialect::Openai => openai::models_list(ids.iter().map(|id| (id.as_str(), OWNER))),
            Dialect::Anthropic => anthropic::models_list(ids.iter().map(String::as_str)),
        },
        id => {
            let id = percent_decode(id.unwrap_or(rest));
            if routes.resolve(&id).is_none() {
                return Err(ApiError::model_not_found(&id, &routes.near(&id)));
            }
            match dialect {
                Dialect::Openai => openai::model(&id, OWNER),
                Dialect::Anthropic => anthropic::model(&id),
            }
        }
    };
    Ok(Response::json(200, body))
}

/// Undoes percent-encoding (RFC 3986 section 2.1): SDKs encode the slash of `provider/model`.
/// What is not encoded properly stays as it is.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes
            .get(at + 1..at + 3)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = pair
            .filter(|pair| bytes[at] == b'%' && pair.bytes().all(|it| it.is_ascii_hexdigit()))
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match byte {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_decoded() {
        for (text, expected) in [
            ("a%2Fb", "a/b"),
            ("a%2", "a%2"),
            ("%zz", "%zz"),
            ("a+b", "a+b"),
            ("%C3%A4", "ä"),
        ] {
            assert_eq!(percent_decode(text), expected);
        }
    }
}
