//! What a program at the pipes of an agent is told of what happens to it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::agent_files;
use super::agent_ledger::{Fate, Ledger};
use super::agent_lines::{Line, PeerIs, SignalingIs};
use crate::agent::{AgentEvent, Observer};
use crate::identity::AgentId;
use crate::link::Path;
use crate::message::Destination;

/// What a program is told of an event, of a link with the path of its packets.
pub(super) fn told(event: &AgentEvent, path: Option<Path>, ledger: &Mutex<Ledger>) -> Vec<String> {
    match event {
        AgentEvent::Message(message) => vec![Line::Message { message }.to_text()],
        AgentEvent::PeerUp { peer, .. } => vec![Line::peer(peer, PeerIs::Up, path, None)],
        AgentEvent::PeerDown { peer, why } => {
            vec![Line::peer(peer, PeerIs::Down, None, Some(why.as_str()))]
        }
        AgentEvent::Acked {
            peer,
            destination,
            up_to,
        } => {
            let ids = held(ledger).acked(peer, destination, *up_to);
            let ids = ids.iter();
            ids.map(|id| settled(id, destination, peer, Fate::Acked))
                .collect()
        }
        AgentEvent::Undelivered {
            peer,
            destination,
            from,
            to,
            why,
        } => {
            let ids = held(ledger).lost(peer, destination, (*from, *to), *why);
            let ids = ids.iter();
            ids.map(|id| settled(id, destination, peer, Fate::Undelivered(*why)))
                .collect()
        }
        AgentEvent::RefusedByPeer {
            peer,
            destination,
            sequence_num,
            reason,
        } => {
            let id = held(ledger).refused(peer, destination, *sequence_num, *reason);
            let fate = Fate::Refused(*reason);
            let line = id.map(|id| settled(&id, destination, peer, fate));
            line.into_iter().collect()
        }
        AgentEvent::Rejected {
            peer,
            reason,
            detail,
        } => vec![rejected(peer, reason.as_str(), detail)],
        AgentEvent::SdpRejected {
            peer,
            reason,
            detail,
        } => vec![rejected(peer, reason.as_str(), detail)],
        AgentEvent::Equivocation { owner, fork, .. } => {
            let message = format!("the log of `{owner}` has two histories ({})", fork.as_str());
            vec![error(&message)]
        }
        AgentEvent::SignalingLost => {
            let state = SignalingIs::Lost;
            vec![
                Line::Signaling { state }.to_text(),
                error(
                    "the signaling server is gone: links live on, new ones cannot be made; trying to reach it again",
                ),
            ]
        }
        AgentEvent::SignalingBack => {
            let state = SignalingIs::Back;
            vec![Line::Signaling { state }.to_text()]
        }
        AgentEvent::WitnessInterrupted { error: why } => vec![error(why)],
        AgentEvent::WitnessResumed { missing } => vec![error(&format!(
            "the witness is written again; {missing} entries are missing, and it says so"
        ))],
        AgentEvent::Replaced => {
            vec![error(
                "a later process with the same id and key has taken this one's place",
            )]
        }
        AgentEvent::File(file) => vec![agent_files::told(file)],
        AgentEvent::Countersigned { .. } => Vec::new(),
        AgentEvent::Missed { events } => vec![Line::Missed { events: *events }.to_text()],
    }
}

/// How things stand, for a program that may have missed how they came to.
pub(super) async fn standing(agent: &Observer) -> Vec<String> {
    let mut lines = Vec::new();
    for peer in agent.peers() {
        let state = match peer.is_up() {
            true => PeerIs::Up,
            false => PeerIs::Down,
        };
        let path = Some(peer.path().await).filter(|_| peer.is_up());
        lines.push(Line::peer(&peer.view.id, state, path, None));
    }
    lines.extend(agent.look().map(|vitals| {
        let state = match vitals.is_registered {
            true => SignalingIs::Back,
            false => SignalingIs::Lost,
        };
        Line::Signaling { state }.to_text()
    }));
    lines
}

fn rejected(peer: &AgentId, reason: &'static str, detail: &str) -> String {
    let line = Line::Rejected {
        peer,
        reason,
        detail,
    };
    line.to_text()
}

pub(super) fn settled(id: &str, destination: &Destination, peer: &AgentId, fate: Fate) -> String {
    let destination = destination.as_str();
    let line = match fate {
        Fate::Acked => Line::Acked {
            id,
            destination,
            peer,
        },
        Fate::Undelivered(why) => Line::Undelivered {
            id,
            destination,
            peer,
            reason: why.as_str(),
        },
        Fate::Refused(why) => Line::Refused {
            id,
            peer,
            reason: why.as_str(),
        },
    };
    line.to_text()
}

fn error(message: &str) -> String {
    let line = Line::Error {
        line: None,
        waits: false,
        message,
    };
    line.to_text()
}

/// The ledger, for a moment.
pub(super) fn held(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
