//! Signed offers and answers (`wire.md`, sections *Signatures* and *Signaling*): the server that
//! relays them can neither change a fingerprint, nor a key, nor who speaks to whom.

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::errors::FrameReason;
use super::members::{Members, Wrong, schema_error};
use super::wire::MAX_SDP;
use crate::identity::{
    AgentId, KeyPair, LinkId, PublicKey, Purpose, Session, Signature, SwarmName,
};
use crate::message::{Keys, SdpReason, canonical, revoked_note};
use crate::swarm::SdpDetail;

/// Offer or answer (RFC 8829).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SdpKind {
    /// Of the agent that dials.
    Offer,
    /// Of the agent that was dialled.
    Answer,
}

/// An offer or answer before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdpBody {
    /// The swarm of both.
    pub swarm: SwarmName,
    /// Who signs.
    pub from: AgentId,
    /// For whom.
    pub to: AgentId,
    /// The session of `from`.
    pub session: Session,
    /// The session of `to`, so that an old offer is none for a new process.
    pub to_session: Session,
    /// The link being made.
    pub link: LinkId,
    /// Offer or answer.
    pub kind: SdpKind,
    /// The SDP, at most 64 KiB.
    pub sdp: String,
}

/// A signed offer or answer, as it travels. What was received is unverified until one of the
/// `verify` functions said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdpFrame {
    /// The swarm of both.
    pub swarm: SwarmName,
    /// Who signs.
    pub from: AgentId,
    /// For whom.
    pub to: AgentId,
    /// The key of `from`.
    pub public_key: PublicKey,
    /// The session of `from`.
    pub session: Session,
    /// The session of `to`.
    pub to_session: Session,
    /// The link being made.
    pub link: LinkId,
    /// Offer or answer.
    pub kind: SdpKind,
    /// The SDP.
    pub sdp: String,
    /// Over all of it.
    pub signature: Signature,
}

/// Looks up the key that an agent is known under: the roster's, or the one pinned at first sight.
pub type KeyOf<'a> = &'a dyn Keys;

/// What the receiver of an offer or answer knows.
#[derive(Clone, Copy)]
pub struct SdpExpect<'a> {
    /// My id.
    pub me: &'a AgentId,
    /// My session.
    pub my_session: Session,
    /// My swarm.
    pub swarm: &'a SwarmName,
    /// The keys that I know.
    pub key_of: KeyOf<'a>,
}

/// An offer or answer that must not be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct SdpRefusal {
    /// Which reason of `wire.md`.
    pub reason: SdpReason,
    /// What was found and what was expected: one line.
    pub detail: String,
}

impl SdpKind {
    /// `offer` or `answer`: the frame's `type`, and the member that holds the description.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Answer => "answer",
        }
    }
}

impl SdpFrame {
    /// Signs an offer or answer.
    pub fn sign(body: SdpBody, key: &KeyPair) -> Self {
        let mut frame = Self {
            swarm: body.swarm,
            from: body.from,
            to: body.to,
            public_key: key.public_key(),
            session: body.session,
            to_session: body.to_session,
            link: body.link,
            kind: body.kind,
            sdp: body.sdp,
            signature: Signature::from_bytes([0; 64]),
        };
        frame.signature = key.sign(Purpose::Sdp, &frame.signed_bytes());
        frame
    }

    /// Checks all that can be told from the frame and what the receiver knows: `unknown-source`,
    /// `key-mismatch`, `bad-signature`, `wrong-recipient`, `wrong-swarm`, `wrong-session`, the first
    /// that applies. (`schema` and `unsigned` are found while reading; the others are the mesh's.)
    ///
    /// # Errors
    /// [`SdpRefusal`]: the SDP must not be applied.
    pub fn verify(&self, expect: &SdpExpect<'_>) -> Result<(), SdpRefusal> {
        self.verify_offline(Some(expect.key_of))?;
        if self.to != *expect.me {
            return Err(refusal(
                SdpReason::WrongRecipient,
                format!("it is for `{}`, I am `{}`", self.to, expect.me),
            ));
        }
        if self.swarm != *expect.swarm {
            return Err(refusal(
                SdpReason::WrongSwarm,
                format!("it is for swarm `{}`, not `{}`", self.swarm, expect.swarm),
            ));
        }
        if self.to_session != expect.my_session {
            return Err(refusal(
                SdpReason::WrongSession,
                format!(
                    "it is for session {}, mine is {}",
                    self.to_session, expect.my_session
                ),
            ));
        }
        Ok(())
    }

    /// Checks the signature: under the key that `key_of` knows for `from`, or, without one, under the
    /// frame's own key, which proves integrity but not identity.
    ///
    /// # Errors
    /// [`SdpRefusal`] with `unknown-source`, `key-mismatch` or `bad-signature`.
    pub fn verify_offline(&self, key_of: Option<KeyOf<'_>>) -> Result<(), SdpRefusal> {
        if let Some(keys) = key_of {
            let note = || revoked_note(keys, &self.public_key);
            let known = keys.key_of(&self.from).ok_or_else(|| {
                refusal(
                    SdpReason::UnknownSource,
                    format!("no key is known for `{}`{}", self.from, note()),
                )
            })?;
            if known != self.public_key {
                return Err(refusal(
                    SdpReason::KeyMismatch,
                    format!(
                        "`{}` is known under {known}, not {}{}",
                        self.from,
                        self.public_key,
                        note()
                    ),
                ));
            }
        }
        self.public_key
            .verify(Purpose::Sdp, &self.signed_bytes(), &self.signature)
            .map_err(|err| refusal(SdpReason::BadSignature, err.to_string()))
    }

    /// SHA-256 of the SDP's text: `sdp_sha256` of witness entries.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.sdp.as_bytes()).into()
    }

    /// `sdp_sha256` and `frame` of a witness entry about this offer or answer.
    pub fn witness_metadata(&self, detail: SdpDetail) -> Value {
        let mut frame = serde_json::to_value(self).expect("string keys only");
        if detail == SdpDetail::Hash
            && let Some(description) = frame[self.kind.as_str()].as_object_mut()
        {
            description.remove("sdp");
        }
        json!({ "sdp_sha256": hex::encode(self.digest()), "frame": frame })
    }

    pub(super) fn of(kind: SdpKind, members: &mut Members) -> Result<Self, Wrong> {
        let description: Description = members.take_object(kind.as_str())?;
        if description.kind != kind {
            return Err(schema_error(format!(
                "member `{0}`: its `type` is not `{0}`",
                kind.as_str()
            )));
        }
        let size = description.sdp.len();
        if size > MAX_SDP {
            return Err(Wrong {
                reason: FrameReason::TooLarge,
                detail: format!("an SDP of {size} bytes is over the {MAX_SDP} allowed"),
            });
        }
        let (swarm, from, to) = (
            members.take("swarm")?,
            members.take("from")?,
            members.take("to")?,
        );
        let (public_key, session) = (members.take("public_key")?, members.take("session")?);
        let (to_session, link) = (members.take("to_session")?, members.take("link")?);
        // Last: an offer that is wrong in other ways too has a wrong shape, not a missing signature.
        let signature = members.take_optional("signature")?.ok_or_else(|| Wrong {
            reason: FrameReason::Unsigned,
            detail: "no member `signature`".into(),
        })?;
        Ok(Self {
            swarm,
            from,
            to,
            public_key,
            session,
            to_session,
            link,
            kind,
            sdp: description.sdp,
            signature,
        })
    }

    fn signed_bytes(&self) -> Vec<u8> {
        canonical(&SdpBytes {
            from: &self.from,
            link: self.link,
            public_key: &self.public_key,
            sdp: &self.sdp,
            session: self.session,
            swarm: &self.swarm,
            to: &self.to,
            to_session: self.to_session,
            kind: self.kind,
        })
    }
}

/// By hand, because the name of one member depends on the kind.
impl Serialize for SdpFrame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(10))?;
        map.serialize_entry("type", &self.kind)?;
        map.serialize_entry("swarm", &self.swarm)?;
        map.serialize_entry("from", &self.from)?;
        map.serialize_entry("to", &self.to)?;
        map.serialize_entry("public_key", &self.public_key)?;
        map.serialize_entry("session", &self.session)?;
        map.serialize_entry("to_session", &self.to_session)?;
        map.serialize_entry("link", &self.link)?;
        let description = DescriptionRef {
            kind: self.kind,
            sdp: &self.sdp,
        };
        map.serialize_entry(self.kind.as_str(), &description)?;
        map.serialize_entry("signature", &self.signature)?;
        map.end()
    }
}

/// `RTCSessionDescriptionInit`.
#[derive(Deserialize)]
struct Description {
    #[serde(rename = "type")]
    kind: SdpKind,
    sdp: String,
}

#[derive(Serialize)]
struct DescriptionRef<'a> {
    #[serde(rename = "type")]
    kind: SdpKind,
    sdp: &'a str,
}

/// What an offer or answer signs.
#[derive(Serialize)]
struct SdpBytes<'a> {
    from: &'a AgentId,
    link: LinkId,
    public_key: &'a PublicKey,
    sdp: &'a str,
    session: Session,
    swarm: &'a SwarmName,
    to: &'a AgentId,
    to_session: Session,
    #[serde(rename = "type")]
    kind: SdpKind,
}

fn refusal(reason: SdpReason, detail: String) -> SdpRefusal {
    SdpRefusal { reason, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> KeyPair {
        KeyPair::from_secret(&[seed; 32])
    }

    fn session(ms: u64) -> Session {
        Session::new(ms, [7; 10])
    }

    fn body() -> SdpBody {
        SdpBody {
            swarm: "five".parse().unwrap(),
            from: "a".parse().unwrap(),
            to: "b".parse().unwrap(),
            session: session(1),
            to_session: session(2),
            link: LinkId::from_bytes([0xab; 8]),
            kind: SdpKind::Answer,
            sdp: "v=0\r\n".into(),
        }
    }

    /// What `b` of swarm `five` in session 2 says, who knows `a` under key 1.
    fn verify(frame: &SdpFrame) -> Option<SdpReason> {
        let me = "b".parse().unwrap();
        let expect = SdpExpect {
            me: &me,
            my_session: session(2),
            swarm: &"five".parse().unwrap(),
            key_of: &|id: &AgentId| (id.as_str() == "a").then(|| key(1).public_key()),
        };
        frame.verify(&expect).err().map(|refusal| refusal.reason)
    }

    #[test]
    fn signs_exactly_the_bytes_of_the_contract() {
        let frame = SdpFrame::sign(body(), &key(1));
        let bytes = format!(
            r#"{{"from":"a","link":"abababababababab","public_key":"{}","sdp":"v=0\r\n","session":"{}","swarm":"five","to":"b","to_session":"{}","type":"answer"}}"#,
            key(1).public_key(),
            session(1),
            session(2)
        );
        assert_eq!(frame.signature, key(1).sign(Purpose::Sdp, bytes.as_bytes()));
        assert_eq!(verify(&frame), None);
    }

    #[test]
    fn refuses_for_the_first_reason_that_applies() {
        let signed = |change: fn(&mut SdpBody), seed| {
            let mut body = body();
            change(&mut body);
            SdpFrame::sign(body, &key(seed))
        };
        for (frame, reason) in [
            (
                signed(|b| b.from = "c".parse().unwrap(), 9),
                SdpReason::UnknownSource,
            ),
            (
                signed(|b| b.to = "c".parse().unwrap(), 9),
                SdpReason::KeyMismatch,
            ),
            (
                signed(|b| b.to = "c".parse().unwrap(), 1),
                SdpReason::WrongRecipient,
            ),
            (
                signed(|b| b.swarm = "six".parse().unwrap(), 1),
                SdpReason::WrongSwarm,
            ),
            (
                signed(|b| b.to_session = session(3), 1),
                SdpReason::WrongSession,
            ),
        ] {
            assert_eq!(verify(&frame), Some(reason), "{frame:?}");
        }
    }

    #[test]
    fn refuses_whatever_was_changed_after_signing() {
        let changes: [fn(&mut SdpFrame); 8] = [
            |f| f.swarm = "six".parse().unwrap(),
            |f| f.to = "c".parse().unwrap(),
            |f| f.session = session(3),
            |f| f.to_session = session(3),
            |f| f.link = LinkId::from_bytes([0; 8]),
            |f| f.kind = SdpKind::Offer,
            |f| f.sdp.push('\n'),
            |f| f.signature = Signature::from_bytes([0; 64]),
        ];
        for change in changes {
            let mut frame = SdpFrame::sign(body(), &key(1));
            change(&mut frame);
            assert_eq!(verify(&frame), Some(SdpReason::BadSignature), "{frame:?}");
            assert!(frame.verify_offline(None).is_err());
        }
        // A server that puts its own key and signature in is found out by who knows the key only.
        let mut frame = SdpFrame::sign(body(), &key(9));
        assert_eq!(frame.verify_offline(None), Ok(()));
        assert_eq!(verify(&frame), Some(SdpReason::KeyMismatch));
        frame.public_key = key(1).public_key();
        assert_eq!(verify(&frame), Some(SdpReason::BadSignature));
    }

    #[test]
    fn the_witness_keeps_the_frame_with_or_without_the_text() {
        let frame = SdpFrame::sign(body(), &key(1));
        let full = frame.witness_metadata(SdpDetail::Full);
        assert_eq!(full["frame"], serde_json::to_value(&frame).unwrap());
        let hash = frame.witness_metadata(SdpDetail::Hash);
        assert_eq!(hash["frame"]["answer"], json!({ "type": "answer" }));
        assert_eq!(hash["frame"]["signature"], full["frame"]["signature"]);
        assert_eq!(hash["sdp_sha256"], full["sdp_sha256"]);
        assert_eq!(full["sdp_sha256"], hex::encode(Sha256::digest("v=0\r\n")));
    }
}
