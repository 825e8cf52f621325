//! What one connection hears, made ready for the room: charged, bounded, read, its proof checked.
//!
//! All of it needs to know nothing of others, so that it happens outside the room's lock: who sends
//! much, or what is costly to read, keeps nobody waiting. Pure.

use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::admission::Limits;
use super::bucket::Bucket;
use super::errors::{ErrorCode, FrameReason};
use super::proof::Nonce;
use super::room::{Heard, Input};
use super::wire::ClientFrame;
use crate::identity::{AgentId, BadSignature, PublicKey, SwarmName};

/// What came on a connection.
#[derive(Debug)]
pub(super) enum Came {
    /// A text frame.
    Text(Utf8Bytes),
    /// A binary frame of so many bytes.
    Binary(usize),
    /// A ping or pong.
    Control,
    /// What cannot be read, nor can anything after it.
    Broken { code: ErrorCode, detail: String },
}

/// The reading of one connection.
#[derive(Debug)]
pub(super) struct Intake {
    limits: Limits,
    frames: Bucket,
    bytes: Bucket,
    swarm: SwarmName,
    nonce: Nonce,
    /// Who registers, or has registered: the room closes a connection whose registration it refuses.
    agent: Option<(AgentId, PublicKey)>,
}

impl Intake {
    /// For a connection on the path of `swarm`, which was challenged with `nonce`.
    pub(super) fn new(limits: Limits, swarm: SwarmName, nonce: Nonce, now: Instant) -> Self {
        Self {
            frames: Bucket::new(limits.frames_per_second, limits.frames_burst, now),
            bytes: Bucket::new(limits.bytes_per_second, limits.bytes_burst, now),
            limits,
            swarm,
            nonce,
            agent: None,
        }
    }

    /// Whether a registration was read.
    pub(super) fn has_registered(&self) -> bool {
        self.agent.is_some()
    }

    /// What the room should know of it, if anything.
    pub(super) fn take(&mut self, came: Came, now: Instant) -> Option<Input> {
        let bad = |code: ErrorCode, message: String, close| {
            let refusal = code.because(message);
            Some(Input::Bad { refusal, close })
        };
        if let Came::Broken { code, detail } = came {
            return bad(code, detail, true);
        }
        if let Some(too_much) = self.charge(&came, now) {
            let refusal = ErrorCode::RateLimited.because(too_much).after(TOO_FAST);
            let close = true;
            return Some(Input::Bad { refusal, close });
        }
        match came {
            Came::Text(text) if self.agent.is_none() && text.len() > MAX_REGISTER => {
                let message = format!(
                    "a frame over {MAX_REGISTER} bytes; the first is `register`, which needs no more"
                );
                bad(ErrorCode::TooLarge, message, true)
            }
            Came::Text(text) => Some(self.read(text)),
            Came::Binary(_) => {
                let message = "a binary frame; signaling speaks JSON in text frames";
                bad(ErrorCode::BadFrame, message.into(), false)
            }
            Came::Control | Came::Broken { .. } => None,
        }
    }

    /// Charges for what came; what is to be said when it is too much.
    fn charge(&mut self, came: &Came, now: Instant) -> Option<String> {
        let size = match came {
            Came::Text(text) => text.len(),
            Came::Binary(size) => *size,
            Came::Control | Came::Broken { .. } => 0,
        };
        let Limits {
            frames_per_second,
            frames_burst,
            bytes_per_second,
            bytes_burst,
            ..
        } = self.limits;
        let more_than = |what, rate, burst| {
            format!("more than {rate} {what} a second after a burst of {burst}; send slower")
        };
        if !self.frames.take(1, now) {
            return Some(more_than("frames", frames_per_second, frames_burst));
        }
        if !self.bytes.take(size, now) {
            return Some(more_than("bytes", bytes_per_second, bytes_burst));
        }
        None
    }

    fn read(&mut self, text: Utf8Bytes) -> Input {
        match ClientFrame::parse(text.as_bytes()) {
            Ok(frame) => {
                let proof = self.verify(&frame);
                Input::Frame(Box::new(Heard { text, frame, proof }))
            }
            Err(err) => Input::Bad {
                close: err.reason == FrameReason::TooLarge,
                refusal: err.into(),
            },
        }
    }

    /// Offers and answers are for their receivers to check.
    fn verify(&mut self, frame: &ClientFrame) -> Result<(), BadSignature> {
        match frame {
            ClientFrame::Register(register) => {
                self.agent
                    .get_or_insert_with(|| (register.agent_id.clone(), register.public_key));
                register.verify(&self.nonce)
            }
            ClientFrame::Goodbye(goodbye) => match &self.agent {
                Some((agent, key)) => goodbye.verify(&self.swarm, agent, key),
                None => Err(BadSignature),
            },
            _ => Ok(()),
        }
    }
}

/// Who sent too much has a full burst again by then.
const TOO_FAST: Duration = Duration::from_secs(5);
/// Ids and keys of full length need a quarter of it.
const MAX_REGISTER: usize = 4 * 1024;
