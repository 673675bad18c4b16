//! Numbers, sizes and times within bounds.

use super::super::problem::Wrong;
use std::time::Duration;

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// A whole number, from `least` to `most`; `what` names it.
pub fn whole(text: &str, least: u64, most: u64, what: &str) -> Result<u64, Wrong> {
    let hint = format!("a {what} from {least} to {most}");
    match text.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Ok(_) => Err(Wrong::value(text, "is out of range", hint)),
        Err(_) => Err(Wrong::value(text, "is no whole number", hint)),
    }
}

/// Bytes, from `least` to `most`.
pub fn size_within(text: &str, least: u64, most: u64) -> Result<u64, Wrong> {
    let hint = format!("a size from {} to {}", show_size(least), show_size(most));
    match size(text) {
        Some(bytes) if (least..=most).contains(&bytes) => Ok(bytes),
        Some(_) => Err(Wrong::value(text, "is out of range", hint)),
        None => Err(Wrong::value(text, "is no size", format!("{hint}, for example 8MiB"))),
    }
}

/// Bytes, `KiB`, `MiB`, `GiB` (also `K`, `M`, `G`) and the decimal `kB`, `MB`, `GB`.
fn size(text: &str) -> Option<u64> {
    let (digits, unit) = split_unit(text);
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => KIB,
        "m" | "mib" => MIB,
        "g" | "gib" => GIB,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

fn show_size(bytes: u64) -> String {
    [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")]
        .into_iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(|| bytes.to_string(), |(unit, name)| format!("{}{name}", bytes / unit))
}

/// A time, from `least` to `most`; `example` is one that is right.
pub fn duration_within(
    text: &str,
    least: Duration,
    most: Duration,
    example: &str,
) -> Result<Duration, Wrong> {
    let hint = format!("a time from {} to {}", show_time(least), show_time(most));
    match duration(text) {
        Some(time) if (least..=most).contains(&time) => Ok(time),
        Some(_) => Err(Wrong::value(text, "is out of range", hint)),
        None if text.parse::<f64>().is_ok() => {
            Err(Wrong::value(text, "has no unit", format!("{hint}, for example {example}")))
        }
        None => Err(Wrong::value(text, "is no time", format!("{hint}, for example {example}"))),
    }
}

/// As [`duration`] reads it.
fn show_time(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{}ms", time.as_millis()),
        seconds if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        seconds if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// A whole number of `us`, `ms`, `s`, `m` or `h`.
fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = split_unit(text);
    let number = digits.parse::<u64>().ok()?;
    match unit {
        "us" | "µs" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" | "min" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end).unwrap_or((text, ""));
    (digits, unit.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_with_units() {
        for (text, expected) in [
            ("1", Some(1)),
            ("8MiB", Some(8 << 20)),
            ("8 mib", Some(8 << 20)),
            ("8M", Some(8 << 20)),
            ("8MB", Some(8_000_000)),
            ("1.5MiB", None),
            ("-1", None),
            ("MiB", None),
            ("", None),
            ("18446744073709551615GiB", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
        for (text, expected) in [
            ("5ms", Some(Duration::from_millis(5))),
            ("90 s", Some(Duration::from_secs(90))),
            ("2m", Some(Duration::from_secs(120))),
            ("5", None),
            ("5d", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
