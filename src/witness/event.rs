//! What can happen: the events of `wire.md`, section *Witness log*, and their names on the wire.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that names no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no event of the witness log")]
pub struct UnknownEvent(String);

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What an entry witnesses. Written in snake case: `log_opened`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Event {
            $($(#[$doc])* $variant,)*
        }

        impl Event {
            /// Every event.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl FromStr for Event {
            type Err = UnknownEvent;

            fn from_str(text: &str) -> Result<Self, UnknownEvent> {
                match text {
                    $($name => Ok(Self::$variant),)*
                    other => Err(UnknownEvent(excerpt(other))),
                }
            }
        }
    };
}

events! {
    /// A log begins; always the first entry, and only the first.
    LogOpened = "log_opened",
    /// A process goes on with a log.
    LogReopened = "log_reopened",
    /// The signaling server listens.
    SignalingServerStarted = "signaling_server_started",
    /// The signaling server admitted an agent.
    AgentRegistered = "agent_registered",
    /// An agent left the signaling server, or its connection was lost or replaced.
    AgentLeft = "agent_left",
    /// The signaling server did not admit an agent.
    RegistrationRefused = "registration_refused",
    /// The signaling server passed an offer on.
    SdpOfferRelayed = "sdp_offer_relayed",
    /// The signaling server passed an answer on.
    SdpAnswerRelayed = "sdp_answer_relayed",
    /// The agent registered with a signaling server.
    SignalingConnected = "signaling_connected",
    /// The agent lost its signaling server.
    SignalingLost = "signaling_lost",
    /// The agent made an offer.
    WebrtcOfferCreated = "webrtc_offer_created",
    /// The agent made an answer.
    WebrtcAnswerCreated = "webrtc_answer_created",
    /// The agent received an offer and found it good.
    WebrtcOfferReceived = "webrtc_offer_received",
    /// The agent received an answer and found it good.
    WebrtcAnswerReceived = "webrtc_answer_received",
    /// The agent refused an offer or an answer.
    SdpRejected = "sdp_rejected",
    /// The agent sent ICE candidates.
    IceCandidatesSent = "ice_candidates_sent",
    /// A peer connection changed its state.
    ConnectionStateChanged = "connection_state_changed",
    /// A data channel opened.
    DatachannelOpen = "datachannel_open",
    /// A data channel closed.
    DatachannelClosed = "datachannel_closed",
    /// A message is about to be transmitted.
    IfmessageSent = "ifmessage_sent",
    /// A verified message is about to be delivered.
    IfmessageReceived = "ifmessage_received",
    /// A message was refused.
    IfmessageRejected = "ifmessage_rejected",
    /// Messages of this agent were given up before a peer had acknowledged them.
    IfmessageUndelivered = "ifmessage_undelivered",
    /// A file was offered, by this agent or to it.
    FileOffered = "file_offered",
    /// An offered file was accepted, by this agent or by the peer.
    FileAccepted = "file_accepted",
    /// A file has arrived whole, here or there.
    FileReceived = "file_received",
    /// A file was refused, or did not arrive.
    FileFailed = "file_failed",
    /// A peer is no longer reached.
    PeerLost = "peer_lost",
    /// A lost peer is reached again.
    PeerRecovered = "peer_recovered",
    /// A peer countersigned a checkpoint of this log, or this agent one of another's.
    CheckpointCosigned = "checkpoint_cosigned",
    /// A checkpoint or a cosignature was refused.
    CheckpointRejected = "checkpoint_rejected",
    /// A log has two histories.
    EquivocationDetected = "equivocation_detected",
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Hostile text in an error is one short line.
fn excerpt(text: &str) -> String {
    let short: String = text.chars().take(MAX_SHOWN).collect();
    short.escape_debug().to_string()
}

/// It is cut; the longest event has 24 characters.
const MAX_SHOWN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_every_name_and_no_other() {
        for event in Event::ALL {
            assert_eq!(event.to_string().parse(), Ok(*event));
            let json = serde_json::to_string(event).unwrap();
            assert_eq!(json, format!("\"{event}\""));
            assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), *event);
        }
        assert!("log_Opened".parse::<Event>().is_err());
        assert!("".parse::<Event>().is_err());
    }

    #[test]
    fn is_named_after_its_variant() {
        for event in Event::ALL {
            let snake: String = format!("{event:?}")
                .chars()
                .flat_map(|c| {
                    let gap = c.is_ascii_uppercase().then_some('_');
                    gap.into_iter().chain([c.to_ascii_lowercase()])
                })
                .collect();
            assert_eq!(snake.trim_start_matches('_'), event.as_str());
        }
    }
}
