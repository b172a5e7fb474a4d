//! Bytes looked at eight at a time ("SIMD within a register"), for values that are mostly too short
//! for the compiler's vectors and of which every call has a dozen: header and log values. Pure.

const ONES: u64 = u64::MAX / 255;

/// Whether there is a control character of ASCII among `bytes`, DEL included.
pub fn any_control(bytes: &[u8]) -> bool {
    is_any(bytes, control)
}

/// Whether there is a control character among them, DEL included, or a quote or a backslash.
pub fn any_control_or_quote(bytes: &[u8]) -> bool {
    is_any(bytes, |word| {
        control(word) | equal(word, b'"') | equal(word, b'\\')
    })
}

/// Whether `special` has the top bit of any byte set, for any eight bytes.
fn is_any(bytes: &[u8], special: impl Fn(u64) -> u64) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    let add = |sum: u64, word: &[u8; 8]| sum | special(u64::from_le_bytes(*word));
    add(words.iter().fold(0, add), &last) & (ONES << 7) != 0
}

const fn control(word: u64) -> u64 {
    less(word, 0x20) | equal(word, 0x7f)
}

const fn equal(word: u64, byte: u8) -> u64 {
    less(word ^ (ONES * byte as u64), 1)
}

/// The top bit of a byte is set if one is less than `than`, which is at most 128; exact in whether
/// there is any, not in which (Anderson, "Bit Twiddling Hacks", "Determine if a word has a byte less
/// than n").
const fn less(word: u64, than: u8) -> u64 {
    word.wrapping_sub(ONES * than as u64) & !word
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_byte_is_enough_and_none_is_too_much(
            mut bytes in prop::collection::vec(prop_oneof![32..0x7f_u8, 0x80..=255_u8], 0..40),
            other in any::<u8>(),
            at in any::<prop::sample::Index>(),
        ) {
            bytes.retain(|byte| !matches!(byte, b'"' | b'\\'));
            bytes.push(b'a');
            prop_assert!(!any_control_or_quote(&bytes));
            let at = at.index(bytes.len());
            bytes[at] = other;
            let is_control = other < 0x20 || other == 0x7f;
            prop_assert_eq!(any_control(&bytes), is_control);
            let is_quote = matches!(other, b'"' | b'\\');
            prop_assert_eq!(any_control_or_quote(&bytes), is_control || is_quote);
        }
    }
}
