//! Whole numbers in decimal, where the formatter's 100 instructions and more are many: in the head
//! and the log line of every answer. Pure.

/// As long as any number gets.
pub type Digits = [u8; 20];

/// `number` in decimal, written into the end of `digits`.
pub fn decimal(digits: &mut Digits, mut number: u64) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal() {
        for (number, expected) in [
            (0, "0"),
            (7, "7"),
            (120, "120"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(decimal(&mut [0; 20], number), expected.as_bytes());
        }
    }
}
