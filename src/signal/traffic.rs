//! What has come to a server and gone from it, counted; and who looks at that from outside.

use std::sync::Weak;

use super::census::Census;
use super::errors::ErrorCode;
use super::hall::Hall;

/// What a [`Server`](super::Server) has counted since it started. Refusals are counted for everybody
/// together: who comes to be refused leaves nothing behind here either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Connections that were challenged.
    pub connections: u64,
    /// Sockets that were dropped at once because all places were taken.
    pub turned_away: u64,
    /// Registrations that were accepted.
    pub registrations: u64,
    /// Frames that came, readable or not.
    pub received: u64,
    /// Frames that were queued for a client.
    pub sent: u64,
    /// Offers relayed.
    pub offers: u64,
    /// Answers relayed.
    pub answers: u64,
    /// Batches of candidates relayed.
    pub candidates: u64,
    /// Requests for an offer relayed.
    pub requests: u64,
    /// Clients dropped because they did not read what they were sent.
    pub dropped: u64,
    /// By [`ErrorCode`], in the order of its list.
    refusals: [u64; ErrorCode::ALL.len()],
}

impl Traffic {
    /// What was refused, by code.
    pub fn refusals(&self) -> impl Iterator<Item = (ErrorCode, u64)> {
        ErrorCode::ALL.into_iter().zip(self.refusals)
    }

    pub(super) fn refused(&mut self, code: ErrorCode) {
        self.refusals[code as usize] += 1;
    }
}

/// Looks at a server without keeping it alive.
#[derive(Clone)]
pub struct ServerObserver(pub(super) Weak<Hall>);

impl ServerObserver {
    /// What it holds and has counted; `None` once it has ended or is ending.
    pub fn look(&self) -> Option<(Census, Traffic)> {
        let hall = self.0.upgrade()?;
        let traffic = hall.traffic()?;
        Some((hall.census(), traffic))
    }
}

impl std::fmt::Debug for ServerObserver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerObserver")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_place_that_its_number_says() {
        for (place, code) in ErrorCode::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, place);
        }
    }
}
