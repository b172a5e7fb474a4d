//! How likely each token was: OpenAI's `logprobs`. Pure, and made up: the numbers depend on the
//! answer alone.
//!
//! Start at [`push_entry`].

use std::io::Write;

use super::fault::push_json;
use super::text;

/// Most alternatives to a token (the vendor's bound).
pub const TOP_MAX: u8 = 20;

/// About how many bytes one token's entry has with `top` alternatives.
pub const fn entry_bytes(top: u8) -> usize {
    96 + 80 * top as usize
}

/// Appends the entry of one token. The first alternative is the token itself.
pub fn push_entry(out: &mut Vec<u8>, token: &str, seed: u64, top: u8) {
    let bits = text::mix(seed);
    let thousandths = bits % 1000;
    push_one(out, token, thousandths);
    out.extend_from_slice(b",\"top_logprobs\":[");
    // A number of few bits, so that counting on from it never overflows.
    let words = ((bits >> 48) as usize..).map(|number| -> &str { text::word(number) });
    let others = words.filter(|word| *word != token);
    let all = std::iter::once(token).chain(others);
    for (rank, alternative) in all.take(usize::from(top)).enumerate() {
        if rank > 0 {
            out.push(b',');
        }
        push_one(out, alternative, thousandths + 500 * rank as u64);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

/// Token, logarithm and bytes, without the closing brace.
fn push_one(out: &mut Vec<u8>, token: &str, thousandths: u64) {
    out.extend_from_slice(b"{\"token\":");
    push_json(out, token);
    let (whole, rest) = (thousandths / 1000, thousandths % 1000);
    let _ = write!(out, ",\"logprob\":-{whole}.{rest:03},\"bytes\":[");
    for (index, byte) in token.bytes().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(out, "{comma}{byte}");
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn an_entry_names_its_token_first_and_then_less_likely_ones() {
        for (token, top) in [(" the", 0), (" fox", 5), ("\"ü\n", TOP_MAX)] {
            let mut out = Vec::new();
            push_entry(&mut out, token, 7, top);
            assert!(out.len() <= entry_bytes(top) + 64, "{}", out.len());
            let entry: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(entry["token"], token);
            assert_eq!(entry["bytes"].as_array().unwrap().len(), token.len());
            let alternatives = entry["top_logprobs"].as_array().unwrap();
            assert_eq!(alternatives.len(), usize::from(top));
            let mut last = 1.0;
            for (rank, alternative) in alternatives.iter().enumerate() {
                let likely = alternative["logprob"].as_f64().unwrap();
                assert!(likely < last && likely <= 0.0);
                assert_eq!(alternative["token"] == token, rank == 0);
                last = likely;
            }
        }
    }
}
