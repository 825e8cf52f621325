//! What the processes of a run say, and the messages they are given to send.

use std::time::{Duration, Instant};

use super::process::{Heard, Who};
use super::run::ChaosError;
use super::said::{Arrived, Numbered, PeerIs, Said, draft, place_and_number};
use super::stage::{Due, Lane, Stage, Traffic};

impl Stage<'_> {
    pub(super) async fn hear(&mut self, heard: Heard) -> Result<(), ChaosError> {
        let Heard { life, at, line, .. } = heard;
        match (heard.who, line) {
            (Who::Server, Some(line)) => self.hear_server(&line),
            (Who::Server, None) => {
                if life == self.server_starts && self.server.is_some() {
                    self.deaths.push("@signal has ended by itself".into());
                    self.server = None;
                    self.at(at + PAUSE, Due::Start(Who::Server));
                }
            }
            (Who::Agent(agent), Some(line)) => {
                self.note_heard(agent, at);
                // What is none of these is none of ours.
                if let Ok(said) = serde_json::from_str(&line) {
                    self.hear_agent(agent, life, at, said);
                }
            }
            (Who::Agent(agent), None) => self.ended(agent, life, at),
        }
        Ok(())
    }

    fn hear_server(&mut self, line: &str) {
        let address = line.strip_prefix("listening on ws://");
        if let Some(address) = address.and_then(|text| text.parse().ok()) {
            self.server_at = Some(address);
            for fault in std::mem::take(&mut self.server_ends) {
                self.over(fault);
            }
        }
    }

    fn hear_agent(&mut self, agent: usize, life: u32, at: Instant, said: Said) {
        match said {
            Said::Ready => {
                self.agents[agent].ready = true;
                for fault in std::mem::take(&mut self.agents[agent].ends) {
                    self.over(fault);
                }
            }
            Said::Sent { id } => {
                if let Some((to, number)) = place_and_number(&id) {
                    self.ledger.accepted(&(agent, to), number);
                    let answered = |draft: &(usize, u64)| *draft == (to, number);
                    let drafts = &mut self.agents[agent].drafts;
                    drafts.retain(|_, draft| !answered(draft));
                }
            }
            Said::Undelivered { id } => {
                if let Some((to, number)) = place_and_number(&id) {
                    self.ledger.given_back(&(agent, to), number);
                }
            }
            Said::Refused { id, peer, reason } => {
                let id = format!(
                    "{}: {id} refused by {peer}: {reason}",
                    self.agents[agent].id
                );
                self.deaths.push(id);
            }
            Said::Error { line, message } => self.hear_error(agent, life, line, &message),
            Said::Message { message } => self.arrived(agent, at, message),
            Said::Peer { peer, state } => {
                let place = self.agents.iter().position(|actor| actor.id == peer);
                if let Some(peer) = place.filter(|_| life == self.agents[agent].life) {
                    self.hear_peer(agent, peer, state);
                }
            }
            Said::Vitals(vitals) => self.hear_vitals(agent, &vitals),
            Said::Other => {}
        }
    }

    fn hear_error(&mut self, agent: usize, life: u32, line: Option<u64>, message: &str) {
        let Some(line) = line else {
            if message.contains("signaling server") {
                self.note_signaling_lost(agent);
            }
            return;
        };
        // One that waits for a slow receiver is told of, and goes out later.
        if message.contains("waits") {
            return;
        }
        if let Some((to, number)) = self.agents[agent].drafts.remove(&(life, line)) {
            self.ledger.refused(&(agent, to), number);
        }
    }

    fn hear_peer(&mut self, agent: usize, peer: usize, state: PeerIs) {
        self.note_link(agent, peer);
        match state {
            PeerIs::Up => {
                self.up.insert((agent, peer));
            }
            PeerIs::Down => {
                // The first end to say so.
                if self.up.remove(&(agent, peer)) && self.up.contains(&(peer, agent)) {
                    self.went_down += 1;
                }
            }
            PeerIs::Other => {}
        }
    }

    fn arrived(&mut self, agent: usize, at: Instant, message: Arrived) {
        let place = self.agents.iter().position(|a| a.id == message.source);
        let Some(from) = place else {
            return;
        };
        let (lane, payload) = ((from, agent), message.payload);
        self.ledger.delivered(&lane, payload.n);
        self.healing
            .delivered(&lane, payload.n, at.saturating_duration_since(self.begun));
        self.note_delivered(from, message.timestamp);
        if payload.ask {
            self.send(
                (agent, from),
                Numbered {
                    re: Some(payload.n),
                    ..Numbered::default()
                },
            );
        }
        if let Some(request) = payload.re
            && let Some(began) = self.asked.remove(&((agent, from), request))
        {
            self.round_trips.record(at.saturating_duration_since(began));
        }
    }

    fn ended(&mut self, agent: usize, life: u32, at: Instant) {
        self.ledger.died(|lane: &Lane| lane.0 == agent);
        let actor = &mut self.agents[agent];
        actor.drafts.retain(|(of, _), _| *of != life);
        if actor.life != life {
            return;
        }
        for peer in 0..self.agents.len() {
            self.up.remove(&(agent, peer));
        }
        let actor = &mut self.agents[agent];
        if std::mem::replace(&mut actor.may_end, true) {
            return;
        }
        // One that cannot register while the server is away is started again, as a supervisor would.
        if actor.ready {
            let how = actor.process.as_mut().and_then(|process| process.ended());
            let how = how.map_or_else(|| "its output closed".into(), |how| how.to_string());
            let log = self.place.log(self.agents[agent].id.as_str());
            let id = &self.agents[agent].id;
            self.deaths.push(format!(
                "{id} has ended by itself ({how}): see {}",
                log.display()
            ));
        }
        self.agents[agent].process = None;
        self.at(at + PAUSE, Due::Start(Who::Agent(agent)));
    }

    // What is sent.

    pub(super) fn offer(&mut self) {
        for lane in self.lanes.clone() {
            let ask = self.traffic == Traffic::Requests;
            if self.traffic == Traffic::None || ask && lane.0 > lane.1 {
                continue;
            }
            let actor = &self.agents[lane.0];
            // What it does not answer for piles up with it, and the next ones wait here.
            if actor.ready && actor.drafts.len() < UNANSWERED {
                let message = Numbered {
                    ask,
                    ..Numbered::default()
                };
                self.send(lane, message);
            }
        }
    }

    fn send(&mut self, lane: Lane, mut message: Numbered) {
        message.n = self.ledger.next(&lane);
        message.fill = "x".repeat(self.scenario.traffic.payload);
        let line = draft(&self.agents[lane.1].id, lane.1, &message);
        let actor = &mut self.agents[lane.0];
        let written = actor
            .process
            .as_mut()
            .and_then(|process| process.write(line));
        if let Some(line) = written {
            self.ledger.offer(&lane);
            actor.drafts.insert((actor.life, line), (lane.1, message.n));
            if message.ask {
                self.asked.insert((lane, message.n), Instant::now());
            }
        }
    }
}

/// Drafts that an agent has not answered for.
const UNANSWERED: usize = 64;
/// Before a process that has ended by itself is started again.
const PAUSE: Duration = Duration::from_millis(500);
