//! Lengths of time: the literals of the language, `[d.]hh:mm:ss[.f]`, ISO 8601 durations, and the window that a
//! request's `Timespan` names.

use crate::domain::Ticks;

const MICROSECOND: i64 = 10;
const SECOND: i64 = 10_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
/// Ticks in a day.
pub(super) const DAY: i64 = 24 * HOUR;

/// The part of time that a request looks at: from `from` on, before `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first moment in it.
    pub from: Ticks,
    /// The first moment after it.
    pub to: Ticks,
}

impl Window {
    /// What holds where a request names none: the 30 days up to `now`.
    #[must_use]
    pub const fn default_at(now: Ticks) -> Self {
        Self { from: Ticks(now.0.saturating_sub(30 * DAY)), to: Ticks(i64::MAX) }
    }

    /// Reads the `Timespan` of a request: `start/end`, `duration/end`, `start/duration`, `duration` or `start`.
    /// `None` where it is none of them.
    #[must_use]
    pub fn parse(text: &str, now: Ticks) -> Option<Self> {
        let parts: Vec<&str> = text.trim().split('/').collect();
        let (from, to) = match parts.as_slice() {
            [only] => match duration(only) {
                Some(length) => (Ticks(now.0.saturating_sub(length)), Ticks(i64::MAX)),
                None => (Ticks::parse(only)?, Ticks(i64::MAX)),
            },
            [first, second] => match (duration(first), duration(second)) {
                (Some(_), Some(_)) => return None,
                (Some(length), None) => {
                    let to = Ticks::parse(second)?;
                    (Ticks(to.0.saturating_sub(length)), to)
                }
                (None, Some(length)) => {
                    let from = Ticks::parse(first)?;
                    (from, Ticks(from.0.saturating_add(length)))
                }
                (None, None) => (Ticks::parse(first)?, Ticks::parse(second)?),
            },
            _ => return None,
        };
        Some(Self { from, to })
    }
}

/// Ticks of an ISO 8601 duration of weeks, days, hours, minutes and seconds (`P1DT2H`).
fn duration(text: &str) -> Option<i64> {
    let rest = text.strip_prefix(['P', 'p'])?;
    let (mut total, mut digits, mut of_day, mut any) = (0_i64, String::new(), false, false);
    for letter in rest.chars() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        if matches!(letter, 'T' | 't') && digits.is_empty() && !of_day {
            of_day = true;
            continue;
        }
        let unit = match (letter.to_ascii_uppercase(), of_day) {
            ('W', false) => 7 * DAY,
            ('D', false) => DAY,
            ('H', true) => HOUR,
            ('M', true) => MINUTE,
            ('S', true) => SECOND,
            _ => return None,
        };
        total = total.checked_add(digits.parse::<i64>().ok()?.checked_mul(unit)?)?;
        digits.clear();
        any = true;
    }
    (any && digits.is_empty()).then_some(total)
}

/// Ticks in one of the unit `word` of a literal (`4h`), if it is one.
pub(super) fn unit(word: &str) -> Option<i64> {
    Some(match word {
        "d" | "day" | "days" => DAY,
        "h" | "hour" | "hours" => HOUR,
        "m" | "min" | "minute" | "minutes" => MINUTE,
        "s" | "sec" | "second" | "seconds" => SECOND,
        "ms" | "millisecond" | "milliseconds" => SECOND / 1000,
        "microsecond" | "microseconds" => MICROSECOND,
        "tick" | "ticks" => 1,
        _ => return None,
    })
}

/// Reads `1d`, `4h`, `[-][d.]hh:mm[:ss[.fffffff]]` or a whole number of days.
pub(super) fn clock(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let ticks = match text.find(|letter: char| letter.is_ascii_alphabetic()) {
        Some(at) => literal(text.get(..at)?, text.get(at..)?)?,
        None if text.contains(':') => of_clock(text)?,
        None => text.parse::<i64>().ok()?.checked_mul(DAY)?,
    };
    Some(if negative { -ticks } else { ticks })
}

/// Ticks of `number` of the unit `word`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "1.5h is no exact thing"
)]
pub(super) fn literal(number: &str, word: &str) -> Option<i64> {
    let unit = unit(word)?;
    match number.parse::<i64>() {
        Ok(whole) => whole.checked_mul(unit),
        Err(_) => {
            let real = number.parse::<f64>().ok()? * unit as f64;
            (real.abs() < 9e18).then_some(real as i64)
        }
    }
}

fn of_clock(text: &str) -> Option<i64> {
    let (days, rest) = match text.split_once('.') {
        Some((days, rest)) if !days.contains(':') => (days.parse::<i64>().ok()?, rest),
        _ => (0, text),
    };
    let mut parts = rest.split(':');
    let hours = parts.next()?.parse::<i64>().ok()?;
    let minutes = parts.next()?.parse::<i64>().ok()?;
    let seconds = parts.next().unwrap_or("0");
    if parts.next().is_some() || !(0..24).contains(&hours) || !(0..60).contains(&minutes) {
        return None;
    }
    let seconds = literal(seconds, "s").filter(|ticks| (0..MINUTE).contains(ticks))?;
    days.checked_mul(DAY)?.checked_add(hours * HOUR + minutes * MINUTE + seconds)
}

/// As `tostring` writes it: `[-][d.]hh:mm:ss[.fffffff]`.
pub(super) fn written(ticks: i64) -> String {
    let sign = if ticks < 0 { "-" } else { "" };
    let ticks = ticks.unsigned_abs();
    let part = |unit: i64, of: u64| ticks / unit.unsigned_abs() % of;
    let days = ticks / DAY.unsigned_abs();
    let day = if days == 0 { String::new() } else { format!("{days}.") };
    let fraction = ticks % SECOND.unsigned_abs();
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:07}") };
    format!(
        "{sign}{day}{:02}:{:02}:{:02}{fraction}",
        part(HOUR, 24),
        part(MINUTE, 60),
        part(SECOND, 60)
    )
}
