//! One run of one agent (a UUIDv7, so that of two sessions the later one is the greater), and the
//! id of one attempt to link two of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::{hex_bytes, hex_text};

/// The session of an agent, made when it starts. Ordered: the greater one is the later one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(Uuid);

/// Text that is no UUIDv7.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a session is a lower-case UUIDv7 such as 01890a5d-ac96-774b-bcce-b302099a8057")]
pub struct InvalidSession;

/// The id of one attempt to link two agents, made by the one that dials and used once; on the
/// wire 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId([u8; 8]);

/// Text that is no link id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a link is 16 lower-case hex digits such as 00c0ffee00c0ffee")]
pub struct InvalidLinkId;

impl Session {
    /// A session that starts at `unix_ms` (milliseconds since 1970, UTC).
    /// `random` keeps two starts in one millisecond apart.
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }

    /// When it started: milliseconds since 1970, UTC.
    pub fn unix_ms(self) -> u64 {
        // RFC 9562, section 5.7: the first 48 bits.
        (self.0.as_u128() >> 80) as u64
    }
}

impl FromStr for Session {
    type Err = InvalidSession;

    fn from_str(text: &str) -> Result<Self, InvalidSession> {
        let uuid = Uuid::try_parse(text).map_err(|_| InvalidSession)?;
        // One spelling only: the text is signed, and compared, as it stands.
        let canonical = uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text;
        if canonical && uuid.get_version_num() == 7 {
            Ok(Self(uuid))
        } else {
            Err(InvalidSession)
        }
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.hyphenated())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Session {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Session {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl LinkId {
    /// The link id of these bytes.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The 8 bytes.
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl FromStr for LinkId {
    type Err = InvalidLinkId;

    fn from_str(text: &str) -> Result<Self, InvalidLinkId> {
        hex_bytes(text).map(Self).ok_or(InvalidLinkId)
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex_text(&self.0))
    }
}

impl fmt::Debug for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for LinkId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LinkId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_session_is_greater() {
        let early = Session::new(1_000, [0xff; 10]);
        let late = Session::new(1_001, [0; 10]);
        assert!(early < late);
        assert_eq!((early.unix_ms(), late.unix_ms()), (1_000, 1_001));
    }

    #[test]
    fn reads_back_what_it_writes_and_refuses_other_spellings() {
        let session = Session::new(1_700_000_000_000, [7; 10]);
        let text = session.to_string();
        assert_eq!(text.parse(), Ok(session));
        assert!(text.to_uppercase().parse::<Session>().is_err());
        assert!(text.replace('-', "").parse::<Session>().is_err());
        assert!(
            "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
                .parse::<Session>()
                .is_err()
        );
    }

    #[test]
    fn reads_a_link_in_one_spelling_only() {
        let link = LinkId::from_bytes([0, 1, 2, 3, 0xab, 0xcd, 0xef, 0xff]);
        assert_eq!(link.to_string(), "00010203abcdefff");
        assert_eq!("00010203abcdefff".parse(), Ok(link));
        for bad in [
            "",
            "00010203ABCDEFFF",
            "00010203abcdeff",
            "00010203abcdefff0",
        ] {
            assert_eq!(bad.parse::<LinkId>(), Err(InvalidLinkId), "{bad}");
        }
    }
}
