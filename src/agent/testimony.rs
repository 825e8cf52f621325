//! What an agent writes into its witness: one function per kind of entry, so that two places never
//! word the same fact differently.

use serde_json::{Value, json};

use crate::identity::{AgentId, LinkId};
use crate::mesh::CloseReason;
use crate::message::{Claim, Destination, Reason, SdpReason, Signed, Timestamp};
use crate::signal::SdpFrame;
use crate::swarm::SdpDetail;
use crate::witness::{Entry, Event};

/// An offer or answer that was made, or received and found good.
pub(super) fn sdp(
    event: Event,
    peer: &AgentId,
    frame: &SdpFrame,
    detail: SdpDetail,
    now: Timestamp,
) -> Entry {
    let entry = Entry::new(event, now).peer(peer);
    entry.metadata(frame.witness_metadata(detail))
}

/// An offer or answer that was refused; `frame` is what came, if it could be read.
pub(super) fn sdp_rejected(
    peer: Option<&AgentId>,
    frame: Option<&SdpFrame>,
    reason: SdpReason,
    detail: &str,
    keep: SdpDetail,
    now: Timestamp,
) -> Entry {
    let mut metadata = match frame {
        Some(frame) => frame.witness_metadata(keep),
        None => json!({}),
    };
    metadata["reason"] = reason.as_str().into();
    metadata["detail"] = detail.into();
    let entry = Entry::new(Event::SdpRejected, now);
    let entry = match peer {
        Some(peer) => entry.peer(peer),
        None => entry,
    };
    entry.metadata(metadata)
}

/// A message of this agent.
pub(super) fn sent(signed: &Signed, now: Timestamp) -> Entry {
    let message = signed.message();
    let entry = Entry::new(Event::IfmessageSent, now);
    let entry = match message.destination() {
        Destination::Agent(peer) => entry.peer(peer),
        Destination::All => entry,
    };
    let entry = match message.trace_id() {
        Some(trace) => entry.trace(trace),
        None => entry,
    };
    let mut metadata = json!({
        "destination": message.destination(),
        "message_id": message.id(),
        "sequence_num": message.sequence_num(),
        "sha256": hex::encode(signed.digest()),
    });
    if let Some(performative) = message.performative() {
        metadata["performative"] = performative.as_str().into();
    }
    entry.metadata(metadata)
}

/// A message that came over the link of `peer`: accepted, or refused for `reason`.
pub(super) fn received(
    peer: &AgentId,
    claim: &Claim,
    refused: Option<(Reason, &str)>,
    now: Timestamp,
) -> Entry {
    let mut metadata = json!({ "sha256": hex::encode(claim.sha256) });
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            metadata[name] = value;
        }
    };
    put("message_id", claim.message_id.clone().into());
    put("sequence_num", claim.sequence_num.into());
    put("destination", json!(claim.destination));
    put("performative", json!(claim.performative));
    let event = match refused {
        None => Event::IfmessageReceived,
        Some((reason, detail)) => {
            put("reason", reason.as_str().into());
            put("detail", detail.into());
            // Whose it says it is; `peer_id` is over whose link it came.
            put("source", json!(claim.source));
            Event::IfmessageRejected
        }
    };
    let entry = Entry::new(event, now).peer(peer);
    let entry = match &claim.trace_id {
        Some(trace) => entry.trace(trace),
        None => entry,
    };
    entry.metadata(metadata)
}

/// Something about a link.
pub(super) fn link(
    event: Event,
    peer: &AgentId,
    link: LinkId,
    what: Value,
    now: Timestamp,
) -> Entry {
    let mut metadata = what;
    metadata["link"] = json!(link);
    Entry::new(event, now).peer(peer).metadata(metadata)
}

/// A link that was up is no more.
pub(super) fn peer_lost(peer: &AgentId, id: LinkId, why: CloseReason, now: Timestamp) -> Entry {
    link(
        Event::PeerLost,
        peer,
        id,
        json!({ "reason": why.as_str() }),
        now,
    )
}
