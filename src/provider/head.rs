//! What the head of an answer may be.

use ureq::http::{Response, header};

use super::error::Cause;
use super::headers;

/// What no answer to these calls may be.
pub(super) fn check_head(response: &Response<ureq::Body>) -> Result<(), Cause> {
    let status = response.status().as_u16();
    if (300..400).contains(&status) {
        let why = format!("status {status}, a redirect; base_url must name where it leads");
        return Err(Cause::Malformed(why));
    }
    if !(200..600).contains(&status) {
        return Err(Cause::Malformed(format!("status {status}")));
    }
    let headers = response.headers();
    if headers.contains_key(header::CONTENT_LENGTH)
        && headers.contains_key(header::TRANSFER_ENCODING)
    {
        // Two readers that disagree about where it ends (RFC 9112, 6.3).
        let why = "both content-length and transfer-encoding".to_owned();
        return Err(Cause::Malformed(why));
    }
    let encoding = headers.get(header::CONTENT_ENCODING);
    let encoding = encoding.map_or("identity", |value| value.to_str().unwrap_or("unreadable"));
    if !encoding.eq_ignore_ascii_case("identity") {
        let why = format!("content-encoding {encoding}, though only identity was accepted");
        return Err(Cause::Malformed(why));
    }
    Ok(())
}

pub(super) fn is_event_stream<'a>(mut headers: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
    headers
        .any(|(name, value)| name == "content-type" && headers::is_mime(value, "text/event-stream"))
}
