//! Sizes and durations as people write them: a whole number, at most one space, the unit.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The bytes of `512 B`, `64 KiB`, `1 MiB`. Powers of 1,024 only, so that nobody has to ask.
pub(super) fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    let bytes = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    usize::try_from(number).ok()?.checked_mul(bytes)
}

/// The time of `500us`, `5ms`, `30s`, `2m`, `1h`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    match unit {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number * 60)),
        "h" => Some(Duration::from_secs(number * 60 * 60)),
        _ => None,
    }
}

/// A size in the largest unit that leaves a whole number.
pub(super) fn show_size(bytes: usize) -> String {
    match bytes {
        bytes if bytes > 0 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        bytes if bytes > 0 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if !(1..=MAX_DIGITS).contains(&digits) || (digits > 1 && number.starts_with('0')) {
        return None;
    }
    Some((number.parse().ok()?, unit.strip_prefix(' ').unwrap_or(unit)))
}

/// Below a microsecond nothing is measured; beyond a day nobody waits.
pub(super) const DURATIONS: RangeInclusive<Duration> =
    Duration::from_micros(1)..=Duration::from_secs(24 * 60 * 60);

/// More are out of every bound, and so few that no unit overflows.
const MAX_DIGITS: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_with_one_space_or_none() {
        for (text, bytes) in [
            ("0 B", 0),
            ("512 B", 512),
            ("512B", 512),
            ("64 KiB", 65_536),
            ("1 MiB", 1_048_576),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "B",
            "512",
            "1  B",
            "1 KB",
            "1 kib",
            "1.5 KiB",
            "-1 B",
            "+1 B",
            "01 B",
            " 1 B",
            "1 B ",
            "1000000000 B",
            "１ B",
        ] {
            assert_eq!(parse_size(text), None, "{text:?}");
        }
    }

    #[test]
    fn reads_durations_in_whole_units() {
        for (text, micros) in [
            ("0ms", 0),
            ("500us", 500),
            ("5ms", 5_000),
            ("5 ms", 5_000),
            ("30s", 30_000_000),
            ("2m", 120_000_000),
            ("1h", 3_600_000_000),
        ] {
            let duration = Duration::from_micros(micros);
            assert_eq!(parse_duration(text), Some(duration), "{text}");
        }
        for text in [
            "",
            "5",
            "ms",
            "1.5s",
            "-5ms",
            "5  ms",
            "5MS",
            "5 min",
            "05ms",
            "9999999999h",
        ] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn shows_sizes_in_the_unit_that_they_are_whole_in() {
        for (bytes, text) in [
            (0, "0 B"),
            (1, "1 B"),
            (1 << 14, "16 KiB"),
            (3 << 20, "3 MiB"),
            (1_025, "1025 B"),
        ] {
            assert_eq!(show_size(bytes), text);
        }
    }
}
