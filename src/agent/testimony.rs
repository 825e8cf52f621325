//! What an agent writes into its witness: one function per kind of entry, so that two places never
//! word the same fact differently.

use serde_json::{Map, Value, json};

use super::files::FileEvent;
use crate::identity::{AgentId, LinkId, hex_text};
use crate::mesh::{CloseReason, GivenBack};
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
    let mut metadata = Map::new();
    metadata.insert("destination".into(), message.destination().as_str().into());
    metadata.insert("message_id".into(), message.id().into());
    metadata.insert("sequence_num".into(), message.sequence_num().into());
    metadata.insert("sha256".into(), hex_text(signed.digest()).into());
    if let Some(performative) = message.performative() {
        metadata.insert("performative".into(), performative.as_str().into());
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
    let mut metadata = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            metadata.insert(name.into(), value);
        }
    };
    put("sha256", Some(hex_text(&claim.sha256).into()));
    put("message_id", claim.message_id.as_deref().map(Value::from));
    put("sequence_num", claim.sequence_num.map(Value::from));
    let destination = claim.destination.as_ref();
    put("destination", destination.map(|to| to.as_str().into()));
    let performative = claim.performative;
    put("performative", performative.map(|p| p.as_str().into()));
    let event = match refused {
        None => Event::IfmessageReceived,
        Some((reason, detail)) => {
            put("reason", Some(reason.as_str().into()));
            put("detail", Some(detail.into()));
            // Whose it says it is; `peer_id` is over whose link it came.
            let source = claim.source.as_ref();
            put("source", source.map(|id| id.as_str().into()));
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

/// Messages of this agent that are given up.
pub(super) fn undelivered(
    peer: &AgentId,
    destination: &Destination,
    (from, to): (u64, u64),
    why: GivenBack,
    now: Timestamp,
) -> Entry {
    let entry = Entry::new(Event::IfmessageUndelivered, now).peer(peer);
    entry.metadata(json!({
        "destination": destination.as_str(),
        "from": from,
        "to": to,
        "reason": why.as_str(),
    }))
}

/// Something that happened to a file.
pub(super) fn file(event: Event, what: &FileEvent, now: Timestamp) -> Entry {
    Entry::new(event, now)
        .peer(&what.peer)
        .metadata(what.to_json())
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
