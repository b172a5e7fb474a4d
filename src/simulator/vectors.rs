//! Embeddings: unit vectors that depend on their input alone, as numbers or in base64. Pure.
//!
//! Start at [`Vectors::plain`].

use std::io::Write;

use super::text;

/// An embeddings answer: one unit vector for each input, made from the input's seed.
#[derive(Clone, Debug)]
pub struct Vectors {
    pub model_json: String,
    pub seeds: Vec<u64>,
    pub tokens: u32,
    /// From 1.
    pub dimensions: usize,
    /// Little-endian floats in base64 rather than JSON numbers.
    pub base64: bool,
}

impl Vectors {
    /// Appends the body.
    pub fn plain(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
        let mut vector = Vec::with_capacity(self.dimensions);
        for (index, seed) in self.seeds.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            unit_vector(*seed, self.dimensions, &mut vector);
            let _ = write!(
                out,
                "{{\"object\":\"embedding\",\"index\":{index},\"embedding\":"
            );
            if self.base64 {
                push_base64(out, vector.iter().flat_map(|value| value.to_le_bytes()));
            } else {
                push_numbers(out, &vector);
            }
            out.push(b'}');
        }
        let tokens = self.tokens;
        let _ = write!(
            out,
            "],\"model\":{},\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}}}",
            self.model_json
        );
    }
}

/// Fills `vector` with a vector of length 1 that depends on `seed` alone.
fn unit_vector(seed: u64, dimensions: usize, vector: &mut Vec<f32>) {
    vector.clear();
    let raw = |index: usize| {
        let bits = text::mix(seed ^ text::mix(index as u64)) >> 40;
        bits as f32 / (1 << 23) as f32 - 1.0
    };
    vector.extend((0..dimensions).map(raw));
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    } else {
        vector[0] = 1.0;
    }
}

fn push_numbers(out: &mut Vec<u8>, vector: &[f32]) {
    out.push(b'[');
    for (index, value) in vector.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let _ = write!(out, "{value}");
    }
    out.push(b']');
}

/// Appends bytes as a JSON string in base64 (RFC 4648 section 4), padded.
fn push_base64(out: &mut Vec<u8>, mut bytes: impl Iterator<Item = u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push(b'"');
    while let Some(first) = bytes.next() {
        let (second, third) = (bytes.next(), bytes.next());
        let group = u32::from(first) << 16
            | u32::from(second.unwrap_or(0)) << 8
            | u32::from(third.unwrap_or(0));
        let digit = |shift: u32| ALPHABET[(group >> shift) as usize & 63];
        out.extend_from_slice(&[
            digit(18),
            digit(12),
            second.map_or(b'=', |_| digit(6)),
            third.map_or(b'=', |_| digit(0)),
        ]);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let check = |bytes: &str, expected: &str| {
            let mut out = Vec::new();
            push_base64(&mut out, bytes.bytes());
            assert_eq!(out, format!("\"{expected}\"").into_bytes());
        };
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foobar", "Zm9vYmFy");
    }

    #[test]
    fn vectors_have_length_one_and_differ() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        unit_vector(1, 256, &mut one);
        unit_vector(2, 256, &mut other);
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        assert!((product(&one, &one) - 1.0).abs() < 1e-4);
        assert!(product(&one, &other).abs() < 0.5);
        unit_vector(1, 256, &mut other);
        assert_eq!(one, other);
    }
}
