//! Small closed vocabularies of the wire: performatives, levels, destinations.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::shape::excerpt;
use crate::identity::{AgentId, InvalidName};

/// Text that is none of the names the contract lists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{found}\" is no {what}; expected one of: {expected}")]
pub struct UnknownName {
    /// What was looked for, such as `performative`.
    pub what: &'static str,
    /// What was found, shortened and escaped.
    pub found: String,
    /// The names there are.
    pub expected: String,
}

/// An enum whose variants each have one name on the wire.
macro_rules! wire_names {
    ($(#[$meta:meta])* $name:ident is a $what:literal {
        $($(#[$doc:meta])* $variant:ident = $text:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All of them, in the order of the contract.
            pub const fn all() -> &'static [Self] {
                &[$(Self::$variant,)+]
            }

            /// The name on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::message::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err($crate::message::UnknownName {
                        what: $what,
                        found: $crate::message::shape::excerpt(text),
                        expected: [$($text),+].join(", "),
                    }),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(super) use wire_names;

wire_names! {
    /// What a message does: the communicative acts of FIPA ACL, and `escalate` and `hold`.
    Performative is a "performative" {
        /// Asks for an action.
        Request = "request",
        /// States a fact.
        Inform = "inform",
        /// Consents to a request.
        Agree = "agree",
        /// Declines a request.
        Refuse = "refuse",
        /// Asks whether something is so.
        QueryIf = "query-if",
        /// Says that it is so.
        Confirm = "confirm",
        /// Says that it is not so.
        Disconfirm = "disconfirm",
        /// Offers something, on conditions.
        Propose = "propose",
        /// Takes an offer.
        AcceptProposal = "accept-proposal",
        /// Turns an offer down.
        RejectProposal = "reject-proposal",
        /// Withdraws a request.
        Cancel = "cancel",
        /// Reports that an action failed.
        Failure = "failure",
        /// Says that a message made no sense.
        NotUnderstood = "not-understood",
        /// Hands a matter to somebody with more authority, such as a person.
        Escalate = "escalate",
        /// Asks to wait.
        Hold = "hold",
    }
}

/// At which level of a system a message speaks; a number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// A function within a module.
    Function = 1,
    /// A module; what a draft gets that names no level.
    Module = 2,
}

impl Level {
    /// The level of a number on the wire.
    pub fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Function),
            2 => Some(Self::Module),
            _ => None,
        }
    }

    /// The number on the wire.
    pub fn number(self) -> u64 {
        self as u64
    }
}

impl Serialize for Level {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.number())
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_number(u64::deserialize(deserializer)?)
            .ok_or_else(|| serde::de::Error::custom("a level is 1 (function) or 2 (module)"))
    }
}

/// Whom a message is for: one agent, or every agent of the swarm (`*`). Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// One agent.
    Agent(AgentId),
    /// Every agent of the swarm; `*` on the wire.
    All,
}

impl Destination {
    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Agent(id) => id.as_str(),
            Self::All => "*",
        }
    }

    /// Whether a message with this destination is for `agent`.
    pub fn includes(&self, agent: &AgentId) -> bool {
        match self {
            Self::Agent(id) => id == agent,
            Self::All => true,
        }
    }
}

impl From<AgentId> for Destination {
    fn from(id: AgentId) -> Self {
        Self::Agent(id)
    }
}

impl FromStr for Destination {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text == "*" {
            Ok(Self::All)
        } else {
            text.parse().map(Self::Agent)
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Destination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| {
            let found = excerpt(&text);
            serde::de::Error::custom(format_args!(
                "\"{found}\" is no destination: expected an agent id, or \"*\" for every agent"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_performative_reads_back_from_its_name() {
        assert_eq!(Performative::all().len(), 15);
        for performative in Performative::all() {
            assert_eq!(performative.as_str().parse(), Ok(*performative));
        }
        let err = "Inform".parse::<Performative>().unwrap_err().to_string();
        assert!(err.contains("one of: request, inform"), "{err}");
    }

    #[test]
    fn a_star_is_everybody_and_no_agent() {
        let finance: AgentId = "finance".parse().unwrap();
        assert_eq!("*".parse(), Ok(Destination::All));
        assert!(Destination::All.includes(&finance));
        assert_eq!("finance".parse(), Ok(Destination::Agent(finance)));
        assert!("**".parse::<Destination>().is_err());
    }

    #[test]
    fn a_level_is_the_integer_1_or_2() {
        assert_eq!(serde_json::from_str::<Level>("1").unwrap(), Level::Function);
        assert_eq!(serde_json::to_string(&Level::Module).unwrap(), "2");
        for bad in ["0", "3", "1.0", "\"1\"", "-1"] {
            assert!(serde_json::from_str::<Level>(bad).is_err(), "{bad}");
        }
    }
}
