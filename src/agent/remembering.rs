//! What an agent remembers of its last run, if it has an outbox on disk.

use super::core::Core;
use super::signaling::fresh_session;
use super::{Builder, StartError, testimony};
use crate::identity::PublicKey;
use crate::mesh::GivenBack;
use crate::outbox::{Journal, Lost, Owner};

impl Builder {
    /// Opens the outbox, if there is to be one on disk.
    pub(super) fn open_journal(
        &self,
        public_key: PublicKey,
    ) -> Result<Option<Journal>, StartError> {
        let Some(folder) = &self.outbox_folder else {
            return Ok(None);
        };
        if !self.channel.is_reliable() {
            return Err(StartError::Unreliable);
        }
        let owner = Owner {
            agent_id: &self.id,
            swarm: &self.swarm,
            public_key,
        };
        let journal = Journal::open(folder, owner, fresh_session(0)?)?;
        Ok(Some(journal))
    }
}

impl Core {
    /// Messages of an earlier session, which nobody would take any more.
    pub(super) fn tell_lost(&mut self, lost: &[Lost]) {
        let why = GivenBack::Superseded;
        for Lost {
            peer,
            destination,
            sequence_num,
        } in lost
        {
            let range = (*sequence_num, *sequence_num);
            let entry = testimony::undelivered(peer, destination, range, why, self.wall);
            self.testify(entry);
        }
        if !lost.is_empty() {
            tracing::warn!(agent = %self.me, messages = lost.len(), reason = why.as_str(), "messages that were kept in the outbox are given up");
        }
    }
}
