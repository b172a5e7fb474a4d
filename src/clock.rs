//! The wall clock as text, for log lines, dumps, health answers and the simulator. Pure but for
//! [`Utc::now`], and without an allocation where a log line needs it ([`Utc::rfc3339`]).
//!
//! Durations and deadlines never come from here: the wall clock jumps, [`std::time::Instant`]
//! does not.

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

    /// The text's bytes, which need no check.
    pub const fn as_bytes(&self) -> &[u8; 24] {
        &self.0
    }

    /// Another moment of the same second; `millisecond` is below 1000.
    pub fn set_millisecond(&mut self, millisecond: u32) {
        digits(&mut self.0[20..23], u64::from(millisecond));
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

    /// `time` in UTC. What lies before 1970 is 1970: no clock of a running machine means it.
    pub fn at(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (year, month, day) = civil_from_days(since.as_secs() / 86_400);
        Self {
            year,
            month,
            day,
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

    /// RFC 3339 to the second: `2026-03-01T12:00:00Z`.
    pub fn rfc3339_seconds(&self) -> String {
        let text = self.rfc3339();
        let (seconds, _) = text.as_str().split_at(19);
        format!("{seconds}Z")
    }

    /// As [`Utc::rfc3339`] without `-` and `:`, for file names: sorts by time.
    pub fn compact(&self) -> String {
        let mut text = self.rfc3339().as_str().to_owned();
        text.retain(|character| character != '-' && character != ':');
        text
    }
}

/// Year, month and day of a day counted from 1970-01-01. Years begin in March, so that the leap
/// day is the last of its year (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// Writes the last digits of `value` over `place`.
fn digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Seconds since the epoch, now.
pub fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
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
        check(1_735_689_599_010, "2024-12-31T23:59:59.010Z");
        check(1_767_225_600_000, "2026-01-01T00:00:00.000Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn the_shorter_forms_are_of_the_same_moment() {
        let utc = Utc::at(UNIX_EPOCH + Duration::from_millis(1_709_251_199_001));
        assert_eq!(utc.compact(), "20240229T235959.001Z");
        assert_eq!(utc.rfc3339_seconds(), "2024-02-29T23:59:59Z");
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let days_in = |year: u64, month: u64| match month {
            2 if year.is_multiple_of(4)
                && (!year.is_multiple_of(100) || year.is_multiple_of(400)) =>
            {
                29
            }
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut expected = (1970, 1, 1);
        for day in 0..146_097 {
            assert_eq!(civil_from_days(day), expected);
            let (year, month, day) = expected;
            expected = match (day == days_in(year, month), month) {
                (false, _) => (year, month, day + 1),
                (true, 12) => (year + 1, 1, 1),
                (true, _) => (year, month + 1, 1),
            };
        }
    }
}
