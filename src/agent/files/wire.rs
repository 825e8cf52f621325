//! What two agents say to each other about a file (`wire.md`, *Files*): the payloads of signed
//! messages, and the header of a frame of data. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::identity::{hex_bytes, hex_text};
use crate::message::{Performative, one_line};

/// The id of one transfer, made by who sends the file; on the wire 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId([u8; 16]);

/// Text that is no transfer id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a transfer is 32 lower-case hex digits")]
pub struct InvalidTransferId;

/// A file as its sender describes it. The name is the sender's, and not to be used as a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOffer {
    /// The transfer.
    pub transfer: TransferId,
    /// The name, as the sender has it.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// The hash of all of them.
    pub sha256: [u8; 32],
    /// Such as `text/csv`.
    pub media_type: String,
}

/// One thing that is said about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileSays {
    /// Do you want it?
    Offer(FileOffer),
    /// Yes, from this byte on.
    Accept { transfer: TransferId, offset: u64 },
    /// No.
    Reject {
        transfer: TransferId,
        reason: String,
    },
    /// It is here, whole.
    Received {
        transfer: TransferId,
        size: u64,
        sha256: [u8; 32],
    },
    /// It will not come, or did not come whole.
    Failed {
        transfer: TransferId,
        reason: String,
    },
}

impl FileSays {
    /// Reads a payload. `None` if it does not speak of files.
    ///
    /// # Errors
    /// One line that says what is wrong, and the transfer if that could be read.
    pub(super) fn read(
        payload: &Map<String, Value>,
    ) -> Option<Result<Self, (Option<TransferId>, String)>> {
        let kind = payload.get("type")?.as_str()?;
        if !matches!(
            kind,
            "file-offer" | "file-accept" | "file-reject" | "file-received" | "file-failed"
        ) {
            return None;
        }
        let transfer = payload.get("transfer").and_then(Value::as_str);
        let transfer = transfer.and_then(|text| text.parse().ok());
        Some(Self::members(kind, transfer, payload).map_err(|detail| (transfer, detail)))
    }

    /// The members that describe a file, whatever the type.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn offer(
        payload: &Map<String, Value>,
    ) -> Result<FileOffer, (Option<TransferId>, String)> {
        let transfer = payload.get("transfer").and_then(Value::as_str);
        let transfer = transfer.and_then(|text| text.parse().ok());
        match Self::members("file-offer", transfer, payload) {
            Ok(Self::Offer(offer)) => Ok(offer),
            Ok(_) => unreachable!("it was asked for an offer"),
            Err(detail) => Err((transfer, detail)),
        }
    }

    fn members(
        kind: &str,
        transfer: Option<TransferId>,
        payload: &Map<String, Value>,
    ) -> Result<Self, String> {
        let transfer =
            transfer.ok_or("`transfer` is missing or not 32 lower-case hex digits".to_owned())?;
        let text = |name: &str, most: usize| {
            let text = payload.get(name).and_then(Value::as_str);
            let text = text.filter(|text| text.chars().count() <= most);
            text.ok_or(format!(
                "`{name}`: expected a text of up to {most} characters"
            ))
        };
        let number = |name: &str| {
            let number = payload.get(name).and_then(Value::as_u64);
            let number = number.filter(|number| *number < INTEGERS_END);
            number.ok_or(format!("`{name}`: expected an integer below 2^53"))
        };
        let hash = || {
            let hash = payload.get("sha256").and_then(Value::as_str);
            let hash = hash.and_then(hex_bytes::<32>);
            hash.ok_or("`sha256`: expected 64 lower-case hex digits".to_owned())
        };
        Ok(match kind {
            "file-offer" => Self::Offer(FileOffer {
                transfer,
                name: text("name", MAX_NAME)?.to_owned(),
                size: number("size")?,
                sha256: hash()?,
                media_type: text("media_type", MAX_MEDIA_TYPE)?.to_owned(),
            }),
            "file-accept" => Self::Accept {
                transfer,
                offset: number("offset")?,
            },
            "file-received" => Self::Received {
                transfer,
                size: number("size")?,
                sha256: hash()?,
            },
            // Shown to people and put into logs: one bounded line, whatever was sent.
            "file-reject" => Self::Reject {
                transfer,
                reason: one_line(text("reason", MAX_REASON)?, MAX_REASON),
            },
            _ => Self::Failed {
                transfer,
                reason: one_line(text("reason", MAX_REASON)?, MAX_REASON),
            },
        })
    }

    /// As it is said: the performative and the payload.
    pub(super) fn to_payload(&self) -> (Performative, Map<String, Value>) {
        let (performative, payload) = match self {
            Self::Offer(offer) => (Performative::Propose, offer.to_json("file-offer")),
            Self::Accept { transfer, offset } => (
                Performative::AcceptProposal,
                json!({ "type": "file-accept", "transfer": transfer, "offset": offset }),
            ),
            Self::Reject { transfer, reason } => (
                Performative::RejectProposal,
                json!({ "type": "file-reject", "transfer": transfer, "reason": reason }),
            ),
            Self::Received {
                transfer,
                size,
                sha256,
            } => (
                Performative::Inform,
                json!({ "type": "file-received", "transfer": transfer, "size": size, "sha256": hex_text(sha256) }),
            ),
            Self::Failed { transfer, reason } => (
                Performative::Failure,
                json!({ "type": "file-failed", "transfer": transfer, "reason": reason }),
            ),
        };
        let Value::Object(payload) = payload else {
            unreachable!("every one of them is an object")
        };
        (performative, payload)
    }
}

impl FileOffer {
    fn to_json(&self, kind: &str) -> Value {
        json!({
            "type": kind,
            "transfer": self.transfer,
            "name": self.name,
            "size": self.size,
            "sha256": hex_text(&self.sha256),
            "media_type": self.media_type,
        })
    }
}

impl TransferId {
    /// The id of these bytes, which are random.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// A frame of data: 16 bytes transfer, 8 bytes offset (big-endian), then data.
pub(super) fn write_header(transfer: TransferId, offset: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..16].copy_from_slice(&transfer.0);
    header[16..].copy_from_slice(&offset.to_be_bytes());
    header
}

/// The transfer and offset of a frame; none of what is no frame.
pub(super) fn read_header(frame: &[u8]) -> Option<(TransferId, u64)> {
    let (transfer, rest) = frame.split_first_chunk::<16>()?;
    let (offset, data) = rest.split_first_chunk::<8>()?;
    let fits = !data.is_empty() && data.len() <= MAX_DATA;
    fits.then(|| (TransferId(*transfer), u64::from_be_bytes(*offset)))
}

impl FromStr for TransferId {
    type Err = InvalidTransferId;

    fn from_str(text: &str) -> Result<Self, InvalidTransferId> {
        hex_bytes(text).map(Self).ok_or(InvalidTransferId)
    }
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex_text(&self.0))
    }
}

impl fmt::Debug for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for TransferId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TransferId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Bytes before the data of a frame.
pub(super) const HEADER: usize = 24;
/// Bytes of data in a frame, at most: what every WebRTC stack carries in one message.
pub(super) const MAX_DATA: usize = 16 * 1024;
/// Characters of a name, at most: four times what file systems take.
pub(super) const MAX_NAME: usize = 1024;
/// Characters of a media type (RFC 6838, section 4.2: 127 for each half).
const MAX_MEDIA_TYPE: usize = 255;
/// Characters of a reason, as everywhere.
const MAX_REASON: usize = 256;
/// Numbers of ours stay below 2^53, where every JSON reader is exact.
const INTEGERS_END: u64 = 1 << 53;

#[cfg(test)]
mod tests {
    use super::*;

    fn says() -> Vec<FileSays> {
        let transfer = TransferId::from_bytes([0xab; 16]);
        let reason = || "too-large".to_owned();
        vec![
            FileSays::Offer(FileOffer {
                transfer,
                name: "a.csv".into(),
                size: 7,
                sha256: [1; 32],
                media_type: "text/csv".into(),
            }),
            FileSays::Accept {
                transfer,
                offset: 3,
            },
            FileSays::Reject {
                transfer,
                reason: reason(),
            },
            FileSays::Received {
                transfer,
                size: 7,
                sha256: [1; 32],
            },
            FileSays::Failed {
                transfer,
                reason: reason(),
            },
        ]
    }

    #[test]
    fn reads_what_it_says() {
        for said in says() {
            let (_, payload) = said.to_payload();
            assert_eq!(FileSays::read(&payload), Some(Ok(said)));
        }
    }

    #[test]
    fn says_what_the_contract_says() {
        let (performative, payload) = says()[0].to_payload();
        assert_eq!(performative, Performative::Propose);
        assert_eq!(
            Value::from(payload).to_string(),
            format!(
                r#"{{"media_type":"text/csv","name":"a.csv","sha256":"{}","size":7,"transfer":"{}","type":"file-offer"}}"#,
                "01".repeat(32),
                "ab".repeat(16)
            )
        );
    }

    #[test]
    fn leaves_other_messages_alone_and_refuses_members_of_the_wrong_shape() {
        for other in [json!({}), json!({"type": 1}), json!({"type": "file"})] {
            assert_eq!(FileSays::read(other.as_object().unwrap()), None, "{other}");
        }
        for said in says() {
            let (_, payload) = said.to_payload();
            for member in payload.keys().filter(|name| *name != "type") {
                for bad in [
                    Value::Null,
                    json!(-1),
                    json!("x".repeat(2000)),
                    json!(1u64 << 53),
                ] {
                    let mut payload = payload.clone();
                    payload[member] = bad;
                    let read = FileSays::read(&payload);
                    assert!(matches!(read, Some(Err(_))), "{member}: {read:?}");
                }
            }
        }
    }

    #[test]
    fn a_reason_is_one_line_whatever_was_sent() {
        let transfer = "ab".repeat(16);
        let payload =
            json!({"type": "file-failed", "transfer": transfer, "reason": "a\nb\u{1b}[2J"});
        let Some(Ok(FileSays::Failed { reason, .. })) =
            FileSays::read(payload.as_object().unwrap())
        else {
            panic!("it is one")
        };
        assert!(!reason.chars().any(char::is_control), "{reason:?}");
    }

    #[test]
    fn a_frame_has_a_header_of_24_bytes_and_then_up_to_16_kib() {
        let transfer = TransferId::from_bytes(*b"0123456789abcdef");
        let mut frame = write_header(transfer, 0x0102_0304_0506_0708).to_vec();
        assert_eq!(frame, b"0123456789abcdef\x01\x02\x03\x04\x05\x06\x07\x08");
        assert_eq!(read_header(&frame), None, "there is no data in it");
        frame.extend(vec![0; MAX_DATA]);
        assert_eq!(read_header(&frame), Some((transfer, 0x0102_0304_0506_0708)));
        frame.push(0);
        assert_eq!(read_header(&frame), None);
        assert_eq!(read_header(&frame[..23]), None);
    }
}
