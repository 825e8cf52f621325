//! Names that travel on the wire: agent ids and swarm names, checked once and then trusted.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// The id of an agent: 1–128 characters of `A–Z a–z 0–9 . _ : / @ -`, the first a letter or digit.
///
/// `if://agent/swarm/legal-1` is one. Ordered by bytes, which decides who dials whom.
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(Arc<str>);

/// The name of a swarm: 1–64 characters of `a–z 0–9 -`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwarmName(Arc<str>);

/// Text that is no valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The text is not an agent id.
    #[error(
        "`{0}` is not an agent id: expected 1-128 characters of A-Z a-z 0-9 . _ : / @ -, the first a letter or digit"
    )]
    Agent(String),
    /// The text is not a swarm name.
    #[error("`{0}` is not a swarm name: expected 1-64 characters of a-z 0-9 -")]
    Swarm(String),
}

impl AgentId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` has the shape of an agent id, and so also of a message id.
    pub fn is_valid(text: &str) -> bool {
        (1..=MAX_AGENT_ID).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|b| {
                b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'/' | b'@' | b'-')
            })
    }
}

impl SwarmName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if Self::is_valid(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName::Agent(shorten(text)))
        }
    }
}

impl FromStr for SwarmName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let valid = (1..=MAX_SWARM_NAME).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName::Swarm(shorten(text)))
        }
    }
}

macro_rules! text_impls {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_impls!(AgentId);
text_impls!(SwarmName);

/// An id or swarm name as a file name: every byte but `A–Z a–z 0–9 _ -` percent-encoded in
/// upper-case hex; what is then longer than 200 bytes is cut to 150 and gets `-` and the first
/// 16 hex digits of its SHA-256, so that two long ids never share a folder.
pub fn file_name(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    if encoded.len() <= MAX_FILE_NAME {
        return encoded;
    }
    let digest = hex::encode(Sha256::digest(encoded.as_bytes()));
    format!("{}-{}", &encoded[..CUT_FILE_NAME], &digest[..16])
}

/// Hostile text in an error message is cut, so that a log line stays a line.
fn shorten(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        format!("{}…", short.escape_debug())
    } else {
        short.escape_debug().to_string()
    }
}

const MAX_AGENT_ID: usize = 128;
const MAX_SWARM_NAME: usize = 64;
const MAX_FILE_NAME: usize = 200;
const CUT_FILE_NAME: usize = 150;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_ids_of_the_contract_and_nothing_else() {
        for good in [
            "a",
            "finance",
            "if://agent/swarm/legal-1",
            "7",
            "a.b_c:d/e@f-g",
        ] {
            assert!(good.parse::<AgentId>().is_ok(), "{good}");
        }
        let long = "a".repeat(129);
        for bad in ["", "*", "@signal", "-a", "a b", "ä", "a\n", long.as_str()] {
            assert!(bad.parse::<AgentId>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(128).parse::<AgentId>().is_ok());
    }

    #[test]
    fn accepts_swarm_names_of_lower_case_digits_and_dashes() {
        assert!("five-agent".parse::<SwarmName>().is_ok());
        for bad in ["", "Five", "five_agent", &"a".repeat(65)] {
            assert!(bad.parse::<SwarmName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn encodes_file_names_without_separators_and_keeps_long_ones_apart() {
        assert_eq!(file_name("if://a/b.c"), "if%3A%2F%2Fa%2Fb%2Ec");
        assert_eq!(file_name("@signal"), "%40signal");
        let one = file_name(&format!("{}1", "/".repeat(127)));
        let two = file_name(&format!("{}2", "/".repeat(127)));
        assert_eq!(one.len(), 150 + 1 + 16);
        assert_ne!(one, two);
    }
}
