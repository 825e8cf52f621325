//! What the processes of a run say, and the messages they are given to send.

use std::time::{Duration, Instant};

use super::heal::Part;
use super::process::{Heard, Who};
use super::record::Written;
use super::run::ChaosError;
use super::said::{Arrived, Numbered, PeerIs, Said, SignalingIs, draft, place_and_number};
use super::stage::{Due, Lane, REAPED, Stage, Traffic};
use crate::bench::wall_clock;
use crate::identity::AgentId;

impl Stage<'_> {
    pub(super) async fn hear(&mut self, heard: Heard) -> Result<(), ChaosError> {
        let Heard { life, at, line, .. } = heard;
        match (heard.who, line) {
            // Of one that was killed nothing is news.
            (Who::Server, _) if life != self.server_starts || self.server.is_none() => {}
            (Who::Server, Some(line)) => self.hear_server(at, &line),
            (Who::Server, None) => {
                if !self.is_closing {
                    self.fail("@signal has ended by itself".into());
                    self.server_is_gone();
                    self.at(at + PAUSE, Due::Start(Who::Server));
                }
            }
            (Who::Agent(agent), Some(line)) => {
                self.note_heard(agent, at);
                match serde_json::from_str(&line) {
                    Ok(said) => self.hear_agent(agent, life, at, said),
                    // The last line of one that was killed may be half a line.
                    Err(_) if !self.lives(agent, life) => {}
                    Err(err) => {
                        let start: String = line.chars().take(SHOWN).collect();
                        let id = &self.agents[agent].id;
                        self.fail(format!("{id} says what cannot be read ({err}): {start}"));
                    }
                }
            }
            (Who::Agent(agent), None) => self.ended(agent, life, at).await,
        }
        Ok(())
    }

    fn hear_server(&mut self, at: Instant, line: &str) {
        let address = line.strip_prefix("listening on ws://");
        if let Some(address) = address.and_then(|text| text.parse().ok()) {
            self.server_at = Some(address);
            self.server_since = Some(at);
            for fault in std::mem::take(&mut self.server_ends) {
                self.over(fault);
            }
        }
        let named = |id: &str| self.place_of(&id.parse().ok()?);
        if let Some(agent) = line.strip_prefix("registered ").and_then(named) {
            self.listed.insert(agent);
            self.look_whether_registered(agent, at);
        } else if let Some(agent) = line.strip_prefix("left ").and_then(named) {
            self.listed.remove(&agent);
        }
    }

    fn hear_agent(&mut self, agent: usize, life: u32, at: Instant, said: Said) {
        match said {
            Said::Ready if self.lives(agent, life) => {
                self.agents[agent].ready = true;
                self.registered(agent, at);
                for fault in std::mem::take(&mut self.agents[agent].ends) {
                    self.over(fault);
                }
            }
            Said::Signaling { state } if self.lives(agent, life) => match state {
                SignalingIs::Back => self.registered(agent, at),
                SignalingIs::Lost => {
                    self.registered.remove(&agent);
                    self.note_signaling_lost();
                }
            },
            Said::Ready | Said::Signaling { .. } => {}
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
                self.fail(id);
            }
            // One that waits for a slow receiver goes out later.
            Said::Error { waits: true, .. } | Said::Error { line: None, .. } => {}
            Said::Error { line: Some(n), .. } => {
                if let Some((to, number)) = self.agents[agent].drafts.remove(&(life, n)) {
                    self.ledger.refused(&(agent, to), number);
                }
            }
            Said::Message { message } => self.arrived(agent, at, message),
            Said::Peer { peer, state } => {
                if let Some(peer) = self.place_of(&peer).filter(|_| self.lives(agent, life)) {
                    self.hear_peer(agent, peer, state);
                }
            }
            Said::Vitals(vitals) => self.hear_vitals(agent, &vitals),
            Said::Other => {}
        }
    }

    /// An agent says that it is registered.
    fn registered(&mut self, agent: usize, at: Instant) {
        self.registered.insert(agent);
        self.look_whether_registered(agent, at);
    }

    fn look_whether_registered(&mut self, agent: usize, at: Instant) {
        if self.has_registered(agent) {
            let at = at.saturating_duration_since(self.begun);
            let registration = Part::Registration(agent);
            self.healing.works(&registration, at, |_, _| true);
        }
    }

    /// Whether this life of an agent is the present one, and nobody has ended it.
    fn lives(&self, agent: usize, life: u32) -> bool {
        let actor = &self.agents[agent];
        actor.life == life && actor.process.is_some()
    }

    fn place_of(&self, id: &AgentId) -> Option<usize> {
        self.agents.iter().position(|actor| actor.id == *id)
    }

    fn hear_peer(&mut self, agent: usize, peer: usize, state: PeerIs) {
        self.note_link(agent, peer, state);
        match state {
            PeerIs::Up => {
                self.up.insert((agent, peer));
            }
            PeerIs::Down => {
                self.link_end_is_down(agent, peer);
            }
            PeerIs::Other => {}
        }
    }

    /// An agent is gone: what it said of its links and its registration is true no more, and its
    /// paths end with it.
    pub(super) fn forget(&mut self, agent: usize) {
        self.registered.remove(&agent);
        for fault in 0..self.records.len() {
            self.paths_are_as_before(fault, agent);
        }
        for peer in 0..self.agents.len() {
            self.link_end_is_down(agent, peer);
        }
    }

    /// An agent says that its link with a peer is down, or says nothing any more.
    fn link_end_is_down(&mut self, agent: usize, peer: usize) {
        if self.up.remove(&(agent, peer)) {
            *self.downs.entry((agent, peer)).or_default() += 1;
        }
    }

    fn arrived(&mut self, agent: usize, at: Instant, message: Arrived) {
        let Some(from) = self.place_of(&message.source) else {
            let (id, source) = (&self.agents[agent].id, message.source);
            self.fail(format!("{id} was given a message of {source}, a stranger"));
            return;
        };
        let (lane, payload) = ((from, agent), message.payload);
        self.ledger.delivered(&lane, payload.n);
        let offered_ms = self.offered_ms.remove(&(lane, payload.n));
        let written = offered_ms.map(|offered_ms| Written {
            offered_ms,
            says_ms: message.timestamp.unix_ms(),
            now_ms: wall_clock().unix_ms(),
        });
        self.note_delivered(lane, payload.n, written, at);
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

    /// The output of a life of an agent has ended.
    async fn ended(&mut self, agent: usize, life: u32, at: Instant) {
        // One that leaves at the end of the run was waited for: it had time to answer.
        if !self.is_closing {
            let ledger = &mut self.ledger;
            self.agents[agent].drafts.retain(|(of, _), (to, number)| {
                if *of == life {
                    ledger.doubted(&(agent, *to), *number);
                }
                *of != life
            });
        }
        if self.agents[agent].life != life {
            return;
        }
        self.forget(agent);
        let actor = &mut self.agents[agent];
        actor.is_silent = true;
        if self.is_closing {
            return;
        }
        let Some(process) = actor.process.take() else {
            return; // It was killed.
        };
        let (is_ready, born) = (actor.ready, actor.born);
        // The end of its output comes a little before its own.
        let how = process.end(REAPED).await;
        // One that could not register since the server was away says so, and is started again, as a
        // supervisor would. For any other end there is no reason.
        let was_there = self.server_since.is_some_and(|since| since <= born);
        let is_refused = how.is_some_and(|how| how.code() == Some(IMPOSSIBLE));
        if is_ready || was_there || !is_refused {
            let how = how.map_or_else(
                || "its output closed, and it had to be killed".into(),
                |how| how.to_string(),
            );
            let id = &self.agents[agent].id;
            let log = self.place.log(id.as_str());
            let log = log.display();
            self.fail(format!("{id} has ended by itself ({how}): see {log}"));
        }
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
        // Before anybody can write it.
        let offered_ms = wall_clock().unix_ms();
        let actor = &mut self.agents[lane.0];
        let written = actor.process.as_mut().map(|process| process.write(line));
        if let Some(Ok(line)) = written {
            self.ledger.offer(&lane);
            self.offered_ms.insert((lane, message.n), offered_ms);
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
/// The exit code of what could not be done, such as to register where no server is (`cli.md`).
const IMPOSSIBLE: i32 = 3;
/// Characters of a line that are shown.
const SHOWN: usize = 100;
