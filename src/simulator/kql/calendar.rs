//! The civil calendar: beginnings of days, weeks, months and years, and times as text after a pattern.

use super::timespan::DAY;
use crate::domain::Ticks;

/// The beginning of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Day,
    /// Sunday is the first day.
    Week,
    Month,
    Year,
}

/// The beginning of the day, week, month or year that `ticks` is in, moved by `offset` of them.
pub(super) fn start_of(start: Start, ticks: Ticks, offset: i64) -> Ticks {
    let day = ticks.0.div_euclid(DAY);
    let offset = offset.clamp(-1_000_000, 1_000_000);
    let day = match start {
        Start::Day => day + offset,
        // 1970-01-01 was a Thursday.
        Start::Week => day - (day + 4).rem_euclid(7) + 7 * offset,
        Start::Month => {
            let (year, month, _) = civil(day);
            let months = year * 12 + month - 1 + offset;
            days(months.div_euclid(12), months.rem_euclid(12) + 1, 1)
        }
        Start::Year => days(civil(day).0 + offset, 1, 1),
    };
    Ticks(day.saturating_mul(DAY))
}

/// `ticks` after a pattern of `y M d H h m s f F t` and separators.
pub(super) fn format(ticks: Ticks, pattern: &str) -> String {
    let (year, month, day) = civil(ticks.0.div_euclid(DAY));
    let of_day = ticks.0.rem_euclid(DAY);
    let seconds = of_day / 10_000_000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = format!("{:07}", of_day % 10_000_000);
    let mut text = String::new();
    let mut letters = pattern.chars().take(200).peekable();
    while let Some(letter) = letters.next() {
        let mut width = 1;
        while letters.peek() == Some(&letter) {
            letters.next();
            width += 1;
        }
        let mut padded = |number: i64| text.push_str(&format!("{number:0width$}"));
        match letter {
            'y' if width <= 2 => padded(year.rem_euclid(100)),
            'y' => padded(year),
            'M' => padded(month),
            'd' => padded(day),
            'H' => padded(hour),
            'h' => padded(if hour % 12 == 0 { 12 } else { hour % 12 }),
            'm' => padded(minute),
            's' => padded(second),
            'f' => text.push_str(fraction.get(..width.min(7)).unwrap_or_default()),
            'F' => {
                let cut = fraction.get(..width.min(7)).unwrap_or_default();
                text.push_str(cut.trim_end_matches('0'));
            }
            't' => text.push_str(if hour < 12 { "AM" } else { "PM" }),
            other => {
                for _ in 0..width {
                    text.push(other);
                }
            }
        }
    }
    text
}

/// Year, month and day of a day counted from 1970 (the era arithmetic of the proleptic Gregorian calendar).
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted_month + 2) / 5 + 1)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}
