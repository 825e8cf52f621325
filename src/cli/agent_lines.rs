//! What `agent` says and takes on its pipes (`cli.md`, `agent`): one JSON object per line each way.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read};

use serde::Serialize;
use serde_json::Value;

use super::agent_files::FileDraft;
use crate::agent::Conversation;
use crate::identity::{AgentId, PublicKey, Session};
use crate::link::Path;
use crate::message::{Draft, IfMessage, Malformed, Timestamp, parse_strict};

/// One line on standard output.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Line<'a> {
    /// Registered; drafts are taken.
    Ready {
        agent_id: &'a AgentId,
        public_key: &'a PublicKey,
        session: Session,
    },
    /// A message for this agent, verified and witnessed: as it came.
    Message { message: &'a IfMessage },
    /// A link is up or down.
    Peer {
        peer: &'a AgentId,
        state: PeerIs,
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
    },
    /// A draft was accepted: numbered, signed, witnessed.
    Sent {
        id: &'a str,
        destination: &'a str,
        sequence_num: u64,
    },
    /// A peer has seen it.
    Acked {
        id: &'a str,
        destination: &'a str,
        peer: &'a AgentId,
    },
    /// A peer has refused it.
    Refused {
        id: &'a str,
        peer: &'a AgentId,
        reason: &'static str,
    },
    /// It was given up before a peer had acknowledged it.
    Undelivered {
        id: &'a str,
        destination: &'a str,
        peer: &'a AgentId,
        reason: &'static str,
    },
    /// A message of a peer was refused here.
    Rejected {
        peer: &'a AgentId,
        reason: &'static str,
        #[serde(skip_serializing_if = "str::is_empty")]
        detail: &'a str,
    },
    /// So many events are left out here; no message is.
    Missed { events: u64 },
    /// The conversations that are not closed, as asked for.
    Conversations { conversations: Vec<Talk<'a>> },
    /// Something happened to a file.
    File {
        state: &'static str,
        peer: &'a AgentId,
        /// The members of the offer, `direction`, and `offset`, `stored_as` or `reason`.
        #[serde(flatten)]
        what: Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<&'a str>,
    },
    /// The signaling server is gone, or the agent is registered again.
    Signaling { state: SignalingIs },
    /// Something could not be done; the agent goes on.
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        line: Option<u64>,
        /// Nothing is wrong with the draft of that line: it is held up, and goes out later.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        waits: bool,
        message: &'a str,
    },
}

/// A conversation, as it stands in a line.
#[derive(Debug, Serialize)]
pub(super) struct Talk<'a> {
    conversation_id: &'a str,
    peers: &'a BTreeSet<AgentId>,
    sent: u64,
    received: u64,
    began: Timestamp,
    last: Timestamp,
}

impl<'a> From<&'a Conversation> for Talk<'a> {
    fn from(conversation: &'a Conversation) -> Self {
        Self {
            conversation_id: &conversation.id,
            peers: &conversation.peers,
            sent: conversation.sent,
            received: conversation.received,
            began: conversation.began,
            last: conversation.last,
        }
    }
}

/// What a line asks for.
#[derive(Debug)]
pub(super) enum Asked {
    /// To send this.
    Send(Box<Draft>),
    /// To send this file.
    SendFile(FileDraft),
    /// To list the conversations.
    Conversations,
}

/// Whether messages may flow.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PeerIs {
    Up,
    Down,
}

/// Whether new links may be made.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SignalingIs {
    Lost,
    Back,
}

impl<'a> Line<'a> {
    /// What is told of a link, on a line.
    pub(super) fn peer(
        peer: &'a AgentId,
        state: PeerIs,
        path: Option<Path>,
        reason: Option<&'static str>,
    ) -> String {
        let path = path.filter(|path| *path != Path::Unknown);
        let path = path.map(|path| path.to_string());
        let line = Self::Peer {
            peer,
            state,
            path,
            reason,
        };
        line.to_text()
    }

    /// The line, with its newline.
    pub(super) fn to_text(&self) -> String {
        let mut text = serde_json::to_string(self).expect("string keys and finite numbers only");
        text.push('\n');
        text
    }
}

/// A line that was read, with its number, from 1.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) number: u64,
    pub(super) text: Result<Vec<u8>, TooLong>,
}

/// A line of more than [`MAX_LINE`] bytes, of which nothing is kept.
#[derive(Debug)]
pub(super) struct TooLong;

/// Reads lines that are not blank, with memory for one, however long they are.
pub(super) struct Inputs<R> {
    reader: R,
    number: u64,
}

impl<R: BufRead> Inputs<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, number: 0 }
    }

    /// The next one; none at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Input>> {
        loop {
            let mut text = Vec::new();
            // Its newline, and one byte that proves it too long.
            let limit = MAX_LINE as u64 + 2;
            let read = self.reader.by_ref().take(limit);
            let mut read = read;
            read.read_until(b'\n', &mut text)?;
            if text.is_empty() {
                return Ok(None);
            }
            self.number += 1;
            let is_whole = text.last() == Some(&b'\n');
            if !is_whole && text.len() as u64 == limit {
                self.reader.skip_until(b'\n')?;
                return Ok(Some(Input {
                    number: self.number,
                    text: Err(TooLong),
                }));
            }
            if !text.trim_ascii().is_empty() {
                return Ok(Some(Input {
                    number: self.number,
                    text: Ok(text),
                }));
            }
        }
    }
}

impl Input {
    /// What stands there: a draft of a message or of a file, or a list that is asked for.
    pub(super) fn read(self) -> Result<Asked, String> {
        let text = self.text.map_err(|TooLong| {
            format!("a line of more than {MAX_LINE} bytes: send evidence as a file")
        })?;
        let value = parse_strict(text.trim_ascii(), MAX_LINE).map_err(|err| match err {
            Malformed::Syntax { column, detail, .. } => format!("column {column}: {detail}"),
            err @ Malformed::TooLarge { .. } => err.to_string(),
        })?;
        let Value::Object(members) = &value else {
            return Err(format!("found no object, expected {DRAFT}"));
        };
        if let Some(list) = members.get("list") {
            return match (list.as_str(), members.len()) {
                (Some("conversations"), 1) => Ok(Asked::Conversations),
                _ => Err(format!("a list is asked for with {LIST} and nothing else")),
            };
        }
        if members.contains_key("file") {
            let file = serde_json::from_value(value).map(Asked::SendFile);
            return file.map_err(|err| format!("{err}; expected {FILE}"));
        }
        let draft = serde_json::from_value(value);
        let draft = draft.map_err(|err| format!("{err}; expected {DRAFT}"))?;
        Ok(Asked::Send(Box::new(draft)))
    }
}

const DRAFT: &str = r#"a draft such as {"destination":"legal","payload":{"text":"hello"}}"#;
const LIST: &str = r#"{"list":"conversations"}"#;
const FILE: &str = r#"{"destination":"legal","file":"figures.csv"}"#;
/// The largest message is 256 KiB; its text may be escaped, four bytes for one.
pub(super) const MAX_LINE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn drafts(text: &str) -> Vec<(u64, Result<Draft, String>)> {
        let mut inputs = Inputs::new(text.as_bytes());
        let next = std::iter::from_fn(|| inputs.next().unwrap());
        let draft = |input: Input| match input.read()? {
            Asked::Send(draft) => Ok(*draft),
            other => Err(format!("found {other:?}")),
        };
        next.map(|input| (input.number, draft(input))).collect()
    }

    #[test]
    fn reads_a_draft_per_line_and_counts_lines_as_people_do() {
        let text = "\n{\"destination\":\"b\",\"payload\":{}}\r\n\n {\"destination\":\"*\",\"payload\":{\"x\":1}}";
        let read = drafts(text);
        assert_eq!(read[0].0, 2);
        assert_eq!(read[0].1.as_ref().unwrap().destination.as_str(), "b");
        assert_eq!(read[1].0, 4);
        assert_eq!(read[1].1.as_ref().unwrap().destination.as_str(), "*");
    }

    #[test]
    fn says_of_each_bad_line_what_is_wrong_and_goes_on() {
        let long = format!("{{\"x\":\"{}\"}}", "y".repeat(MAX_LINE));
        let text = [
            "nonsense",
            "[]",
            "{}",
            r#"{"destination":"b","payload":{},"colour":1}"#,
            r#"{"destination":"b","payload":{},"payload":{}}"#,
            r#"{"destination":"not an id","payload":{}}"#,
            &long,
            r#"{"list":"conversations"}"#,
            r#"{"list":"peers"}"#,
            r#"{"list":"conversations","payload":{}}"#,
            r#"{"destination":"b","payload":{}}"#,
        ]
        .join("\n");
        let read = drafts(&text);
        let numbers: Vec<_> = read.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        let errors: Vec<_> = read[..10]
            .iter()
            .map(|(_, r)| r.as_ref().unwrap_err())
            .collect();
        for (error, part) in errors.iter().zip([
            "column",
            "found no object",
            "destination",
            "colour",
            "payload",
            "not an id",
            "more than",
            "Conversations",
            "and nothing else",
            "and nothing else",
        ]) {
            assert!(error.contains(part), "{error}");
            assert!(error.len() < 1000 && !error.contains('\n'), "{error}");
        }
        assert!(read[10].1.is_ok());
    }

    #[test]
    fn a_line_with_a_file_sends_that() {
        let read = |text: &str| Inputs::new(text.as_bytes()).next().unwrap().unwrap().read();
        let Ok(Asked::SendFile(draft)) = read(r#"{"destination":"b","file":"a b.csv"}"#) else {
            panic!("a file")
        };
        assert_eq!(draft.destination.as_str(), "b");
        assert_eq!(draft.file.to_str(), Some("a b.csv"));
        for bad in [
            r#"{"destination":"*","file":"a"}"#,
            r#"{"destination":"b","file":1}"#,
            r#"{"destination":"b","file":"a","payload":{}}"#,
        ] {
            assert!(read(bad).unwrap_err().contains("expected"), "{bad}");
        }
    }

    #[test]
    fn events_are_named_as_in_the_contract() {
        let id: AgentId = "legal".parse().unwrap();
        assert_eq!(
            Line::peer(&id, PeerIs::Up, Some(Path::Host), None),
            "{\"event\":\"peer\",\"peer\":\"legal\",\"state\":\"up\",\"path\":\"host\"}\n"
        );
        let line = Line::Error {
            line: Some(3),
            waits: false,
            message: "x",
        };
        assert_eq!(
            line.to_text(),
            "{\"event\":\"error\",\"line\":3,\"message\":\"x\"}\n"
        );
    }
}
