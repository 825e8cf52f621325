//! Points in time as they stand on the wire: RFC 3339, UTC, milliseconds, `Z`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::{Date, OffsetDateTime};

/// Milliseconds since 1970 (UTC), written as `2026-01-31T08:15:30.123Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Text that is no such point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a timestamp is RFC 3339 in UTC with milliseconds, such as 2026-01-31T08:15:30.123Z")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// The point in time `ms` milliseconds after 1970 began (UTC), held within years 0 to 9999.
    pub fn from_unix_ms(ms: i64) -> Self {
        Self(ms.clamp(MIN_UNIX_MS, MAX_UNIX_MS))
    }

    /// Milliseconds since 1970 (UTC).
    pub fn unix_ms(self) -> i64 {
        self.0
    }
}

impl Timestamp {
    /// The text on the wire.
    fn text(self) -> [u8; SHAPE.len()] {
        let time = OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1000))
            .expect("held within years 0 to 9999 by every constructor");
        let (year, month, day) = time.to_calendar_date();
        let (hour, minute, second) = time.to_hms();
        let mut text = *SHAPE;
        write_digits(&mut text[0..4], i64::from(year));
        write_digits(&mut text[5..7], u8::from(month).into());
        write_digits(&mut text[8..10], day.into());
        write_digits(&mut text[11..13], hour.into());
        write_digits(&mut text[14..16], minute.into());
        write_digits(&mut text[17..19], second.into());
        write_digits(&mut text[20..23], self.0.rem_euclid(1000));
        text
    }

    /// The point in time that `text`, of the right shape, names; none if there is no such day
    /// or time of day.
    fn of_shape(text: &[u8; SHAPE.len()]) -> Option<Self> {
        let two = |at| (10 * digit(text[at]) + digit(text[at + 1])) as u8;
        let year = 100 * i32::from(two(0)) + i32::from(two(2));
        let ms = 100 * digit(text[20]) + u16::from(two(21));
        let date = Date::from_calendar_date(year, two(5).try_into().ok()?, two(8)).ok()?;
        let time = date.with_hms(two(11), two(14), two(17)).ok()?;
        let seconds = time.assume_utc().unix_timestamp();
        Some(Self(1000 * seconds + i64::from(ms)))
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        // One spelling only, so that what is read is written the same: what else RFC 3339 allows
        // (`:60` seconds, offsets, other precisions, lower case) is refused.
        let text = text.as_bytes().try_into().map_err(|_| InvalidTimestamp)?;
        if has_shape(text) {
            Self::of_shape(text).ok_or(InvalidTimestamp)
        } else {
            Err(InvalidTimestamp)
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.text()).expect("digits and punctuation"))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether there is a digit where [`SHAPE`] has one, and else what it has.
fn has_shape(text: &[u8; SHAPE.len()]) -> bool {
    text.iter()
        .zip(SHAPE)
        .all(|(found, expected)| match expected {
            b'0' => found.is_ascii_digit(),
            _ => found == expected,
        })
}

fn digit(byte: u8) -> u16 {
    u16::from(byte - b'0')
}

/// Fills `digits` with the last decimal digits of `number`.
fn write_digits(digits: &mut [u8], mut number: i64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Every text on the wire, with each digit as `0`. Read and written by hand: a message has its
/// time written three times and read once, and the `time` crate's formats are made for any shape.
const SHAPE: &[u8; 24] = b"0000-00-00T00:00:00.000Z";
/// 0000-01-01T00:00:00.000Z
const MIN_UNIX_MS: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z
const MAX_UNIX_MS: i64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::format_description::well_known::Rfc3339;

    use super::*;

    /// What RFC 3339 says of `text`, as far as it is the one spelling.
    fn by_the_crate(text: &str) -> Option<Timestamp> {
        let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let ms = i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()?;
        (spelt_by_the_crate(ms)? == text).then_some(Timestamp(ms))
    }

    fn spelt_by_the_crate(ms: i64) -> Option<String> {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()?;
        let format = time::macros::format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        );
        time.format(format).ok()
    }

    #[test]
    fn agrees_with_the_crate_in_every_month_there_is() {
        // Days and times of day that wander through the months.
        for ms in (MIN_UNIX_MS..=MAX_UNIX_MS).step_by(17 * 86_400_000 + 7_919_993) {
            let text = Timestamp(ms).to_string();
            assert_eq!(spelt_by_the_crate(ms).as_deref(), Some(text.as_str()));
            assert_eq!(text.parse(), Ok(Timestamp(ms)));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_crate_on_any_text_of_about_the_shape(
            text in r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]\.[0-9]{3}Z",
            at in any::<prop::sample::Index>(),
            other in prop::option::of("[+,./:;0-9TtZz -]|."),
        ) {
            let mut text = text;
            let at = at.index(text.len());
            if let Some(other) = other {
                text.replace_range(at..=at, &other);
            }
            prop_assert_eq!(text.parse().ok(), by_the_crate(&text));
        }

        #[test]
        fn agrees_with_the_crate_on_any_point_in_time(ms in MIN_UNIX_MS..=MAX_UNIX_MS) {
            let text = Timestamp(ms).to_string();
            prop_assert_eq!(spelt_by_the_crate(ms), Some(text.clone()));
            prop_assert_eq!(by_the_crate(&text), Some(Timestamp(ms)));
            prop_assert_eq!(text.parse(), Ok(Timestamp(ms)));
        }
    }

    #[test]
    fn writes_and_reads_the_one_spelling() {
        let text = "2026-01-31T08:15:30.123Z";
        let time: Timestamp = text.parse().unwrap();
        assert_eq!(time.unix_ms(), 1_769_847_330_123);
        assert_eq!(time.to_string(), text);
        for bad in [
            "2026-01-31T08:15:30Z",
            "2026-01-31T08:15:30.1234Z",
            "2026-01-31T08:15:30.123z",
            "2026-01-31 08:15:30.123Z",
            "2026-02-30T08:15:30.123Z",
            "2026-01-31T08:15:60.123Z",
            "2016-12-31T23:59:60.000Z",
            "2026-01-31T24:00:00.000Z",
            "2026-01-31t08:15:30.123Z",
            "2026-00-31T08:15:30.123Z",
            "2025-02-29T08:15:30.123Z",
            "+026-01-31T08:15:30.123Z",
            "2026-01-31T09:15:30.1+01",
            "",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    #[test]
    fn holds_extremes_within_four_digit_years() {
        assert_eq!(
            Timestamp::from_unix_ms(i64::MAX).to_string(),
            "9999-12-31T23:59:59.999Z"
        );
        assert_eq!(
            Timestamp::from_unix_ms(i64::MIN).to_string(),
            "0000-01-01T00:00:00.000Z"
        );
    }
}
