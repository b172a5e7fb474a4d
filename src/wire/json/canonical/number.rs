//! Numbers by what they say: `1`, `1.0`, `10e-1` and `1E0` are one number, and two that differ in
//! their thousandth digit are two. All on the text; no float is made that could round.

use super::{Buffered, Refusal};

/// Digits of an exponent after its leading zeros. So many fit an `i64` together with what the
/// places of a text of 4 GiB add.
const EXPONENT_DIGITS_MAX: usize = 18;

/// Writes the JSON number that is `literal` as sign, digits without zeros at either end, `e` and
/// the exponent of the last digit; zero as `0`.
///
/// `-0` is not `0`: some readers of JSON tell them apart.
pub(super) fn write(literal: &[u8], out: &mut Buffered<'_>) -> Result<(), Refusal> {
    let digits = literal.strip_prefix(b"-").unwrap_or(literal);
    if digits.len() < literal.len() {
        out.byte(b'-');
    }
    let (digits, exponent) = split(digits, |byte| matches!(byte, b'e' | b'E'));
    let (whole, fraction) = split(digits, |byte| *byte == b'.');
    // What the digits are shifted by, so that the last of them is in the first place.
    let fraction = without_end_zeros(fraction);
    let mut place = -(fraction.len() as i64);
    let mut whole = without_start_zeros(whole);
    let mut rest = fraction;
    if fraction.is_empty() {
        let kept = without_end_zeros(whole);
        place = (whole.len() - kept.len()) as i64;
        whole = kept;
    } else if whole.is_empty() {
        rest = without_start_zeros(fraction);
    }
    if whole.is_empty() && rest.is_empty() {
        out.byte(b'0');
        return Ok(());
    }
    let exponent = value_of(exponent)? + place;
    out.bytes(whole);
    out.bytes(rest);
    out.byte(b'e');
    out.bytes(exponent.to_string().as_bytes());
    Ok(())
}

/// What is before the first such byte, and what is behind it.
fn split(bytes: &[u8], at: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    match bytes.iter().position(at) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

fn without_start_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros..]
}

fn without_end_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().rev().take_while(|digit| **digit == b'0');
    &digits[..digits.len() - zeros.count()]
}

/// The exponent that `text`, what follows the `e`, says; 0 where there is none.
fn value_of(text: &[u8]) -> Result<i64, Refusal> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let digits = without_start_zeros(digits);
    if digits.len() > EXPONENT_DIGITS_MAX {
        return Err(Refusal::Exponent);
    }
    let add = |sum: i64, digit: &u8| sum * 10 + i64::from(digit - b'0');
    let value = digits.iter().fold(0, add);
    Ok(if is_negative { -value } else { value })
}
