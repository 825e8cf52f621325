//! What the room notes for the witness logs, one of each swarm.

use std::time::Instant;

use serde_json::{Value, json};

use super::admission::Admission;
use super::bucket::Bucket;
use super::errors::ErrorCode;
use super::proof::Register;
use super::room::{Effect, Room};
use crate::identity::{AgentId, SwarmName};

/// An entry for the witness log of one swarm.
#[derive(Debug, Clone, PartialEq)]
pub struct WitnessNote {
    /// Whose log.
    pub swarm: SwarmName,
    /// One of `wire.md`'s events.
    pub event: &'static str,
    /// The agent it is about; for `registration_refused` who it claimed to be.
    pub peer: Option<AgentId>,
    /// Of the entry.
    pub metadata: Value,
}

/// Refused registrations: strangers must not fill the disk, so that over so many a second only their
/// number is noted.
#[derive(Debug)]
pub(super) struct Refusals {
    noted: Bucket,
    /// Since the last that was.
    not_noted: u64,
}

impl Refusals {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            noted: Bucket::new(REFUSALS_PER_SECOND, REFUSALS_BURST, now),
            not_noted: 0,
        }
    }

    /// How many were passed over since the last note; `None` if this one is passed over too.
    fn note(&mut self, now: Instant) -> Option<u64> {
        if self.noted.take(1, now) {
            return Some(std::mem::take(&mut self.not_noted));
        }
        self.not_noted += 1;
        None
    }
}

impl Room {
    pub(super) fn note_started(&mut self, swarm: &SwarmName) {
        let admission = match self.rules.admission {
            Admission::Rosters(_) => "roster",
            Admission::Open => "open",
        };
        let metadata = json!({ "admission": admission, "listen": self.rules.listen });
        self.note(swarm, "signaling_server_started", None, metadata);
    }

    pub(super) fn note_refused(
        &mut self,
        swarm: &SwarmName,
        register: &Register,
        code: ErrorCode,
        now: Instant,
    ) {
        if !self.has_log(swarm) {
            return;
        }
        let Some(not_noted) = self.refusals.note(now) else {
            return;
        };
        let mut metadata = json!({ "code": code, "public_key": register.public_key });
        if not_noted > 0 {
            metadata["not_noted"] = json!(not_noted);
        }
        let claimed = Some(&register.agent_id);
        self.note(swarm, "registration_refused", claimed, metadata);
    }

    pub(super) fn note(
        &mut self,
        swarm: &SwarmName,
        event: &'static str,
        peer: Option<&AgentId>,
        metadata: Value,
    ) {
        if self.rules.witness.is_some() {
            self.effects.push(Effect::Witness(WitnessNote {
                swarm: swarm.clone(),
                event,
                peer: peer.cloned(),
                metadata,
            }));
        }
    }

    /// A stranger cannot make the server open a log for a swarm that nobody is in.
    fn has_log(&self, swarm: &SwarmName) -> bool {
        match &self.rules.admission {
            Admission::Rosters(rosters) => rosters.contains_key(swarm),
            Admission::Open => self.swarms.contains_key(swarm),
        }
    }
}

/// Entries of 300 bytes or so: what strangers can make a log grow by, a quarter of a GiB a day.
const REFUSALS_PER_SECOND: u32 = 10;
/// A swarm that was given the wrong file, all of it.
const REFUSALS_BURST: u32 = 1000;
