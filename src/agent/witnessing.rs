//! The end of a round: the witness is written, then effects are let out; and what happens when it
//! cannot be written.

use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;

use super::AgentError;
use super::core::Core;
use super::effects::Effect;
use super::event::AgentEvent;
use super::gate::wants_cover;
use super::taking::open;
use crate::outbox::JournalError;
use crate::witness::{Entry, Log, OnWriteError, WriteError};

impl Core {
    /// Makes `entry` part of the witness; it is written at the end of the round.
    pub(super) fn testify(&mut self, entry: Entry) {
        if let Some(witness) = &mut self.witness {
            let event = entry.event();
            self.gate.entered(event, self.now);
            let index = witness.append(entry);
            if wants_cover(event) {
                self.countersigning.cosigners.cover(index + 1);
            }
        }
    }

    /// Writes the witness, a write to the page cache of some microseconds, and lets out what it
    /// now has, or what the disk has. Whether what happened is witnessed, or need not be.
    pub(super) fn commit_and_release(&mut self) -> bool {
        let Some(witness) = &mut self.witness else {
            self.effects.clear();
            return false;
        };
        let missing = witness.unwitnessed();
        if missing > 0 {
            // Nothing may have happened but the time, and the disk have room again.
            witness.note_gap(self.wall);
        }
        match witness.commit() {
            Ok(()) if missing > 0 => {
                tracing::warn!(agent = %self.me, missing, reason = "the disk takes it again", "the witness is written again; entries are missing");
                self.tell(AgentEvent::WitnessResumed { missing });
            }
            Ok(()) => {}
            Err(err) if self.on_error == OnWriteError::Continue => {
                witness.give_up();
                if missing == 0 {
                    tracing::warn!(agent = %self.me, reason = %err, "the witness cannot be written; going on WITHOUT it");
                    let error = err.to_string();
                    self.tell(AgentEvent::WitnessInterrupted { error });
                }
            }
            Err(err) => {
                self.witness_failed(err);
                return false;
            }
        }
        if let Err(err) = self.commit_journal() {
            self.stop_since("the outbox cannot be written", AgentError::Outbox(err));
            return false;
        }
        self.release();
        true
    }

    /// Writes what has to be remembered, to the page cache as well. If the journal has become long,
    /// others make it short.
    fn commit_journal(&mut self) -> Result<(), JournalError> {
        if let Some(journal) = &self.journal {
            let mut journal = open(journal);
            journal.commit()?;
            self.rewrite = self.rewrite.take().or_else(|| journal.due_rewrite());
        }
        Ok(())
    }

    /// The disk has so many entries.
    pub(super) fn synced(&mut self, entries: u64) {
        self.gate.synced(entries);
    }

    /// A checkpoint could not be written. The one before stands; the next one covers more.
    pub(super) fn checkpoint_failed(&mut self, err: WriteError) {
        match self.on_error {
            OnWriteError::Stop => self.witness_failed(err),
            OnWriteError::Continue => {
                tracing::warn!(agent = %self.me, reason = %err, "no new checkpoint of the witness")
            }
        }
    }

    /// What cannot be witnessed is not done: the agent ends instead.
    pub(super) fn witness_failed(&mut self, err: WriteError) {
        self.stop_since("the witness cannot be written", AgentError::Witness(err));
    }

    /// What is promised cannot be kept: nothing more goes out, and the agent ends.
    pub(super) fn stop_since(&mut self, what: &'static str, why: AgentError) {
        self.effects.clear();
        self.gate.break_off();
        if let Some(journal) = &self.journal {
            open(journal).break_off();
        }
        tracing::error!(agent = %self.me, reason = %why, "{what}");
        // What fails after that, a journal that is broken off above all, is not why.
        let first = self.leaving.take().and_then(|leaving| leaving.why);
        self.begin_leaving(what, Duration::ZERO, Some(first.unwrap_or(why)));
    }

    /// Lets out what need not wait.
    pub(super) fn release(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        if self.gate.holds() {
            let entries = self.witness.as_ref().map_or(0, Log::committed_len);
            self.gate.hold(effects.drain(..), entries);
            while let Some(effect) = self.gate.next() {
                self.let_out(effect);
            }
            self.gate.settle();
        } else {
            effects.drain(..).for_each(|effect| self.let_out(effect));
        }
        // Its memory serves the next round, but for that of a burst.
        effects.shrink_to(FEW);
        self.effects = effects;
    }

    fn let_out(&mut self, effect: Effect) {
        match effect {
            Effect::Message(way, bytes) => way.send(bytes),
            Effect::Control(queue, frame) => {
                // A peer that takes no control frames for so long is dead; its heartbeat
                // will say so.
                if queue.try_send(frame).is_err() {
                    tracing::debug!("a control frame was dropped");
                }
            }
            Effect::Signal(frame) => {
                // Without a server it has nowhere to go: what it was for is made anew with the next.
                if let Err(TrySendError::Full(_)) = self.signal_queue.try_send(frame)
                    && let Some(unsaid) = self.of_server.say(self.now)
                {
                    tracing::warn!(agent = %self.me, reason = "the queue to the server is full", unsaid, "a signaling frame was dropped; the dial is tried again");
                }
            }
            Effect::File(heard) => self.hear_of_file(*heard),
            Effect::Event(event, permit) => self.subscribers.publish(&event, permit),
        }
    }
}

/// Effects of a usual round.
const FEW: usize = 64;
