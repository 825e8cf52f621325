//! Evidence that fits into a message: what is claimed, and what it rests on.

use serde_json::{Map, Value};

use super::{Agent, Receipt, SendError};
use crate::message::{Destination, Draft, DraftError, Performative};

/// What is shown, and where it comes from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// What it cites: at least one, `if://citation/…` or `cit:…`.
    pub citation_ids: Vec<String>,
    /// What it says.
    pub payload: Map<String, Value>,
    /// The conversation that it is for.
    pub conversation_id: Option<String>,
    /// What it warns of.
    pub hazards: Vec<String>,
}

impl Agent {
    /// Sends evidence to one agent or to all, as an `inform` that cites its sources. What is larger
    /// than a message goes as a file.
    ///
    /// # Errors
    /// As [`send`](Self::send), and where no source is named.
    pub async fn share_evidence(
        &self,
        to: Destination,
        evidence: Evidence,
    ) -> Result<Receipt, SendError> {
        if evidence.citation_ids.is_empty() {
            return Err(SendError::Draft(DraftError::Member {
                field: "citation_ids".into(),
                found: "none".into(),
                expected: "the source of the evidence, such as if://citation/report-17",
            }));
        }
        let draft = Draft {
            performative: Some(Performative::Inform),
            citation_ids: evidence.citation_ids,
            conversation_id: evidence.conversation_id,
            hazards: evidence.hazards,
            ..Draft::new(to, evidence.payload)
        };
        self.send(draft).await
    }
}
