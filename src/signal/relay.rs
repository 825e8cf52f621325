//! What members say to each other by way of the room: to whom it goes, and as what it is noted.

use serde_json::json;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::errors::{ErrorCode, ErrorFrame};
use super::room::{ConnId, Effect, Room};
use super::sdp::{SdpFrame, SdpKind};
use crate::identity::{AgentId, LinkId, SwarmName};

impl Room {
    pub(super) fn relay_sdp(
        &mut self,
        swarm: &SwarmName,
        me: &AgentId,
        frame: &SdpFrame,
        text: Utf8Bytes,
    ) -> Result<(), ErrorFrame> {
        let conn = self.route(swarm, me, &frame.from, &frame.to, Some(frame.link))?;
        match frame.kind {
            SdpKind::Offer => self.traffic.offers += 1,
            SdpKind::Answer => self.traffic.answers += 1,
        }
        if let Some(detail) = self.rules.witness {
            let mut metadata = frame.witness_metadata(detail);
            metadata["link"] = json!(frame.link);
            metadata["to"] = json!(frame.to);
            let event = match frame.kind {
                SdpKind::Offer => "sdp_offer_relayed",
                SdpKind::Answer => "sdp_answer_relayed",
            };
            self.note(swarm, event, Some(me), metadata);
        }
        self.effects.push(Effect::Send { conn, text });
        Ok(())
    }

    /// Candidates of a `link`, or a request for an offer. Hands on the very text that came: what is signed in it, and what is not known, stays as it is.
    pub(super) fn relay(
        &mut self,
        swarm: &SwarmName,
        me: &AgentId,
        from: &AgentId,
        to: &AgentId,
        link: Option<LinkId>,
        text: Utf8Bytes,
    ) -> Result<(), ErrorFrame> {
        let conn = self.route(swarm, me, from, to, link)?;
        match link {
            Some(_) => self.traffic.candidates += 1,
            None => self.traffic.requests += 1,
        }
        self.effects.push(Effect::Send { conn, text });
        Ok(())
    }

    fn route(
        &self,
        swarm: &SwarmName,
        me: &AgentId,
        from: &AgentId,
        to: &AgentId,
        link: Option<LinkId>,
    ) -> Result<ConnId, ErrorFrame> {
        let members = self.swarms.get(swarm).map(|s| &s.members);
        let refusal = if from != me {
            let message = format!("`from` is `{from}`, but this connection is `{me}`");
            ErrorCode::NotYours.because(message)
        } else if let Some(member) = members.and_then(|members| members.get(to)) {
            return Ok(member.conn);
        } else {
            let message = format!("`{to}` is not registered in swarm `{swarm}`");
            ErrorCode::UnknownPeer.because(message)
        };
        Err(ErrorFrame {
            to: Some(to.clone()),
            link,
            ..refusal
        })
    }
}
