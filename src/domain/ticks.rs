//! A point in time as 100 ns ticks since 1970-01-01T00:00:00Z, the resolution that Defender's own
//! timestamps have (0 to 7 fraction digits). Not a clock: nothing here asks what time it is.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Ticks in one second.
pub const TICKS_PER_SECOND: i64 = 10_000_000;

const SECONDS_PER_DAY: i64 = 86_400;

/// 100 ns ticks since the Unix epoch, UTC. Negative before 1970; the range covers the years 0 to 9999.
///
/// Text form: RFC 3339 with `Z`; no fraction if it is zero, else all seven digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticks(pub i64);

impl Ticks {
    /// From whole milliseconds since the epoch; saturates far outside the range.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(TICKS_PER_SECOND / 1000))
    }

    /// Whole milliseconds since the epoch, rounded down (the unit of OCSF `time`).
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(TICKS_PER_SECOND / 1000)
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(TICKS_PER_SECOND)
    }

    /// Seconds from `earlier` to `self`; negative if `earlier` is later.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a lag in seconds needs no 63 bits")]
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / TICKS_PER_SECOND as f64
    }

    /// `self` moved by `seconds`, saturating.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(TICKS_PER_SECOND)))
    }

    /// Reads an ISO 8601 date and time as Defender writes them: `T` or a blank between date and time,
    /// seconds optional, any number of fraction digits (digits past the seventh are cut), `Z`, an
    /// offset `±hh:mm`/`±hhmm`/`±hh`, or **no zone at all, which means UTC** (`_TimeReceivedBySvc` of the
    /// mail tables comes so). A leap second counts as the last tick of its minute.
    ///
    /// `None` for anything else; nothing panics.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim().as_bytes();
        let year = digits(&mut rest, 4)?;
        literal(&mut rest, b'-')?;
        let month = digits(&mut rest, 2)?;
        literal(&mut rest, b'-')?;
        let day = digits(&mut rest, 2)?;
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
            return None;
        }
        let mut ticks_of_day = 0;
        let mut offset_minutes = 0;
        if let Some((separator, after)) = rest.split_first() {
            if !matches!(separator, b'T' | b't' | b' ') {
                return None;
            }
            rest = after;
            let hour = digits(&mut rest, 2)?;
            literal(&mut rest, b':')?;
            let minute = digits(&mut rest, 2)?;
            let mut second = 0;
            let mut fraction = 0;
            if literal(&mut rest, b':').is_some() {
                second = digits(&mut rest, 2)?;
                if literal(&mut rest, b'.').or_else(|| literal(&mut rest, b',')).is_some() {
                    fraction = fraction_ticks(&mut rest)?;
                }
            }
            if hour > 23 || minute > 59 || second > 60 {
                return None;
            }
            if second == 60 {
                (second, fraction) = (59, TICKS_PER_SECOND - 1);
            }
            ticks_of_day = ((hour * 60 + minute) * 60 + second) * TICKS_PER_SECOND + fraction;
            offset_minutes = zone_minutes(&mut rest)?;
        }
        if !rest.is_empty() {
            return None;
        }
        let days = days_from_civil(year, month, day);
        Some(Self(
            days * SECONDS_PER_DAY * TICKS_PER_SECOND + ticks_of_day
                - offset_minutes * 60 * TICKS_PER_SECOND,
        ))
    }

    /// Appends the text form to `out`; the same as `Display`, without the formatting machinery
    /// (this is on the hot path of rendering).
    pub fn write_to(self, out: &mut Vec<u8>) {
        let seconds = self.as_seconds();
        let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
        let number = |value: i64| u32::try_from(value).unwrap_or_default();
        let (year, month, day) = (number(year.clamp(0, 9999)), number(month), number(day));
        let second = number(seconds.rem_euclid(SECONDS_PER_DAY));
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        // All digits at once: one by one, the growing buffer costs more than the digits.
        let date = [
            digit(year / 1000),
            digit(year / 100),
            digit(year / 10),
            digit(year),
            b'-',
            digit(month / 10),
            digit(month),
            b'-',
            digit(day / 10),
            digit(day),
            b'T',
            digit(hour / 10),
            digit(hour),
            b':',
            digit(minute / 10),
            digit(minute),
            b':',
            digit(second / 10),
            digit(second),
        ];
        out.extend_from_slice(&date);
        let fraction = number(self.0.rem_euclid(TICKS_PER_SECOND));
        if fraction == 0 {
            return out.push(b'Z');
        }
        let fraction = [
            b'.',
            digit(fraction / 1_000_000),
            digit(fraction / 100_000),
            digit(fraction / 10_000),
            digit(fraction / 1000),
            digit(fraction / 100),
            digit(fraction / 10),
            digit(fraction),
            b'Z',
        ];
        out.extend_from_slice(&fraction);
    }
}

/// The last decimal digit of `number`.
const fn digit(number: u32) -> u8 {
    b'0' + (number % 10) as u8
}

impl fmt::Display for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(28);
        self.write_to(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

/// As text in formats for people (JSON), as the number of ticks in binary ones (the journal).
impl Serialize for Ticks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Ticks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            Self::parse(&text)
                .ok_or_else(|| serde::de::Error::custom(format!("not a date and time: {text:?}")))
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

fn digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(count)?;
    let mut value = 0;
    for byte in head {
        value = value * 10 + i64::from(byte.is_ascii_digit().then(|| byte - b'0')?);
    }
    *rest = tail;
    Some(value)
}

fn literal(rest: &mut &[u8], byte: u8) -> Option<()> {
    let (first, tail) = rest.split_first()?;
    (*first == byte).then(|| *rest = tail)
}

fn fraction_ticks(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0;
    let mut unit = TICKS_PER_SECOND;
    let mut any = false;
    while let Some((byte, tail)) = rest.split_first().filter(|(byte, _)| byte.is_ascii_digit()) {
        unit /= 10;
        value += i64::from(byte - b'0') * unit;
        any = true;
        *rest = tail;
    }
    any.then_some(value)
}

fn zone_minutes(rest: &mut &[u8]) -> Option<i64> {
    let Some((sign, after)) = rest.split_first() else { return Some(0) };
    let sign = match sign {
        b'Z' | b'z' => {
            *rest = after;
            return Some(0);
        }
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    *rest = after;
    let hours = digits(rest, 2)?;
    let _ = literal(rest, b':');
    let minutes = if rest.is_empty() { 0 } else { digits(rest, 2)? };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a proleptic Gregorian date. Years are counted from March, so that the leap
/// day is the last of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(Ticks::parse(text).expect(text).to_string(), expected);
    }

    #[test]
    fn zero_to_seven_fraction_digits_and_missing_zones_are_read_as_utc() {
        check("2022-11-22T06:19:40Z", "2022-11-22T06:19:40Z");
        check("2022-11-22T06:21:48.0672868Z", "2022-11-22T06:21:48.0672868Z");
        check("2026-08-20T09:11:04.0000000", "2026-08-20T09:11:04Z");
        check("2026-08-20T09:11:04.5", "2026-08-20T09:11:04.5000000Z");
        check("2026-08-20T09:11:04.123456789Z", "2026-08-20T09:11:04.1234567Z");
        check(" 2026-08-20 09:11 ", "2026-08-20T09:11:00Z");
        check("2026-08-20T09:11:04+02:00", "2026-08-20T07:11:04Z");
        check("2026-08-20T09:11:04-0530", "2026-08-20T14:41:04Z");
        check("2026-08-20", "2026-08-20T00:00:00Z");
        check("1601-01-01T00:00:00Z", "1601-01-01T00:00:00Z");
        check("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.9999999Z");
        check("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.9999999Z");
        check("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z");
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-02-29T00:00:00Z",
            "2026-00-10",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00Zx",
            "2026-01-01T",
            "20260101",
            "２026-01-01",
        ] {
            assert_eq!(Ticks::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_and_ticks_are_one_to_one(ticks in -621_355_968_000_000_000_i64..2_534_023_007_999_999_999) {
            let text = Ticks(ticks).to_string();
            prop_assert_eq!(Ticks::parse(&text), Some(Ticks(ticks)), "{}", text);
        }

        #[test]
        fn agrees_with_an_independent_calendar(seconds in -62_000_000_000_i64..253_000_000_000) {
            let theirs = jiff::Timestamp::from_second(seconds).unwrap().to_string();
            prop_assert_eq!(Ticks(seconds * TICKS_PER_SECOND).to_string(), theirs);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = Ticks::parse(&text);
        }
    }
}
