//! Points in time as they stand on the wire: RFC 3339, UTC, milliseconds, `Z`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

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

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        // One spelling only, so that what is read is written the same: `:60` seconds, offsets
        // and other precisions are refused by the length, the `Z`, and the comparison below.
        if text.len() != LENGTH || !text.ends_with('Z') {
            return Err(InvalidTimestamp);
        }
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidTimestamp)?;
        let ms = time.unix_timestamp_nanos() / 1_000_000;
        let timestamp = Self(i64::try_from(ms).map_err(|_| InvalidTimestamp)?);
        if timestamp.to_string() == text {
            Ok(timestamp)
        } else {
            Err(InvalidTimestamp)
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .expect("held within years 0 to 9999 by every constructor");
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute(),
            time.second(),
            time.millisecond()
        )
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

const LENGTH: usize = "2026-01-31T08:15:30.123Z".len();
/// 0000-01-01T00:00:00.000Z
const MIN_UNIX_MS: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z
const MAX_UNIX_MS: i64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;

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
