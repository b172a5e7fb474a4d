//! Wall-clock time as text. Pure: the time is an argument.
//!
//! The calendar arithmetic is Howard Hinnant's `civil_from_days`
//! (<https://howardhinnant.github.io/date_algorithms.html>), which holds for every date that a
//! `u64` of seconds since 1970 can mean within four-digit years.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment in UTC, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    year: u64,
    month: u64,
    day: u64,
    second_of_day: u64,
    millisecond: u64,
}

/// `2026-03-01T12:00:00.123Z`: 24 bytes of ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339([u8; 24]);

impl Rfc3339 {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl std::fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Utc {
    /// Now.
    pub fn now() -> Self {
        Self::at(SystemTime::now())
    }

    /// `time` in UTC; what lies before 1970 is 1970.
    pub fn at(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let days = since.as_secs() / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            second_of_day: since.as_secs() % 86_400,
            millisecond: u64::from(since.subsec_millis()),
        }
    }

    /// RFC 3339 with milliseconds.
    pub fn rfc3339(&self) -> Rfc3339 {
        let mut text = *b"0000-00-00T00:00:00.000Z";
        digits(&mut text[0..4], self.year);
        digits(&mut text[5..7], self.month);
        digits(&mut text[8..10], self.day);
        digits(&mut text[11..13], self.second_of_day / 3600);
        digits(&mut text[14..16], self.second_of_day / 60 % 60);
        digits(&mut text[17..19], self.second_of_day % 60);
        digits(&mut text[20..23], self.millisecond);
        Rfc3339(text)
    }

    /// As [`Utc::rfc3339`] without `-` and `:`, for file names: sorts by time.
    pub fn compact(&self) -> String {
        let mut text = self.rfc3339().as_str().to_owned();
        text.retain(|character| character != '-' && character != ':');
        text
    }
}

/// Writes the last digits of `value` over `place`.
fn digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn check(ms: u64, expected: &str) {
        let utc = Utc::at(UNIX_EPOCH + Duration::from_millis(ms));
        assert_eq!(utc.rfc3339().as_str(), expected);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_399_999, "2000-02-28T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(1_709_251_199_001, "2024-02-29T23:59:59.001Z");
        check(1_767_225_600_000, "2026-01-01T00:00:00.000Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn the_compact_form_fits_a_file_name() {
        let utc = Utc::at(UNIX_EPOCH + Duration::from_millis(1_709_251_199_001));
        assert_eq!(utc.compact(), "20240229T235959.001Z");
    }
}
