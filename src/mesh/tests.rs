//! The rules about links, one by one, as seen from outside; those about trouble are in
//! `healing_tests.rs`, about many at once in `line_tests.rs`, about messages in `message_tests.rs`.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::identity::{AgentId, LinkId, Session};
use crate::message::{Destination, Reason, SdpReason, Timestamp};

/// The mesh of `m`, and the hand that plays everybody else.
pub(super) struct Bench {
    pub(super) mesh: Mesh,
    pub(super) now: Instant,
}

impl Bench {
    pub(super) fn new(reliable: bool) -> Self {
        Self::with(reliable, Neighbours::All)
    }

    /// A message to `destination` goes out.
    pub(super) fn sends(&mut self, destination: &str) -> Assigned {
        let destination = to(destination);
        let assigned = self.mesh.assign(&destination, self.now).unwrap();
        let bytes = Bytes::from(format!("{destination} {}", assigned.sequence_num));
        self.mesh.sent(&destination, &assigned, &bytes, self.now);
        assigned
    }

    /// Whether a message to `destination` would be taken.
    pub(super) fn takes(&self, destination: &str) -> Result<Assigned, SendError> {
        self.mesh.assign(&to(destination), self.now)
    }

    pub(super) fn with(reliable: bool, neighbours: Neighbours) -> Self {
        Self::of(Config {
            neighbours,
            ..config(reliable)
        })
    }

    pub(super) fn making_at_once(links: usize) -> Self {
        Self::of(Config {
            making_at_once: links,
            ..config(true)
        })
    }

    pub(super) fn of(config: Config) -> Self {
        let now = Instant::now();
        let mesh = Mesh::new(config, now);
        Self { mesh, now }
    }

    pub(super) fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.mesh.poll()).collect()
    }

    /// Lets time pass, tick by tick.
    pub(super) fn wait(&mut self, span: Duration) -> Vec<Output> {
        let end = self.now + span;
        let mut outputs = Vec::new();
        while let Some(due) = self.mesh.timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.mesh.tick(self.now);
            let next = self.mesh.timeout();
            assert!(next.is_none_or(|next| next > self.now), "due for ever");
            outputs.extend(self.outputs());
        }
        self.now = end;
        outputs
    }

    /// Lets time pass in which this peer answers every ping; returns what else is put out.
    pub(super) fn answers(&mut self, peer: &str, span: Duration) -> Vec<Output> {
        let end = self.now + span;
        let mut outputs = Vec::new();
        loop {
            let due = self.mesh.timeout().filter(|due| *due <= end);
            self.now = due.map_or(end, |due| due.max(self.now));
            self.mesh.tick(self.now);
            let next = self.mesh.timeout();
            assert!(next.is_none_or(|next| next > self.now), "due for ever");
            let link = self.link_of(peer);
            for output in self.outputs() {
                match output {
                    Output::SendPing { link: asked, t } if Some(asked) == link => {
                        self.mesh.pong(asked, t, self.now);
                    }
                    other => outputs.push(other),
                }
            }
            outputs.extend(self.outputs());
            if due.is_none() {
                return outputs;
            }
        }
    }

    /// The open link to this peer, else the one being made.
    pub(super) fn link_of(&self, peer: &str) -> Option<LinkId> {
        let mut peers = self.mesh.peers();
        peers.find(|view| view.id == id(peer))?.link
    }

    pub(super) fn seen(&mut self, peer: &str, run: u64) -> Vec<Output> {
        self.mesh.peer_seen(&id(peer), session(run), self.now);
        self.outputs()
    }

    pub(super) fn offer(&mut self, from: &str, run: u64, n: u8) -> Result<(), SdpReason> {
        let now = self.now;
        self.mesh.offer(&id(from), session(run), link(n), now)
    }

    /// Channels open and hello arrives.
    pub(super) fn greet(&mut self, peer: &str, run: u64, link: LinkId, next: Next) -> Vec<Output> {
        self.mesh.link_open(link, self.now);
        let hello = self
            .mesh
            .hello(link, &id(peer), session(run), next, self.now);
        assert_eq!(hello, Ok(()));
        self.outputs()
    }

    /// `a` offers link `n`, and it comes up.
    pub(super) fn up(&mut self, run: u64, n: u8) {
        assert_eq!(self.offer("a", run, n), Ok(()));
        let outputs = self.greet("a", run, link(n), FIRST);
        let up = Output::PeerUp {
            peer: id("a"),
            link: link(n),
        };
        assert!(outputs.contains(&up), "{outputs:?}");
    }

    pub(super) fn accept(&mut self, n: u8, header: &Header<'_>) -> Result<(), Reason> {
        self.mesh.accept(link(n), header, false, self.now, wall(0))
    }

    pub(super) fn state(&self, peer: &str) -> Option<PeerState> {
        let mut peers = self.mesh.peers();
        peers.find(|view| view.id == id(peer)).map(|v| v.state)
    }
}

/// Of `m`, in its first run.
pub(super) fn config(reliable: bool) -> Config {
    Config {
        me: id("m"),
        session: session(1),
        neighbours: Neighbours::All,
        reliable,
        dial_timeout: Duration::from_secs(10),
        making_at_once: 16,
        outbox: OutboxLimits::default(),
        durable: false,
        seed: 7,
    }
}

pub(super) fn id(text: &str) -> AgentId {
    text.parse().unwrap()
}

pub(super) fn to(text: &str) -> Destination {
    text.parse().unwrap()
}

pub(super) fn session(run: u64) -> Session {
    Session::new(run, [0; 10])
}

pub(super) fn link(n: u8) -> LinkId {
    LinkId::from_bytes([n; 8])
}

pub(super) fn wall(seconds: i64) -> Timestamp {
    Timestamp::from_unix_ms(1_700_000_000_000 + seconds * 1000)
}

pub(super) fn closed(link: LinkId, why: CloseReason) -> Output {
    Output::Close { link, why }
}

pub(super) fn dialled(outputs: &[Output]) -> Option<LinkId> {
    outputs.iter().find_map(|output| match output {
        Output::Dial { link, .. } => Some(*link),
        _ => None,
    })
}

/// `m` asks `a` for an offer.
pub(super) fn ask() -> Output {
    Output::AskForOffer { peer: id("a") }
}

/// The messages that go out on link `n`.
pub(super) fn transmitted(outputs: &[Output], n: u8) -> Vec<String> {
    let on_it = |output: &Output| match output {
        Output::Transmit {
            link: on, bytes, ..
        } if *on == link(n) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    };
    outputs.iter().filter_map(on_it).collect()
}

pub(super) const FIRST: Next = Lanes { direct: 1, all: 1 };
pub(super) const SECOND: Duration = Duration::from_secs(1);

// Who dials.

#[test]
fn the_smaller_id_dials_at_once_and_the_larger_waits_then_asks() {
    let mut bench = Bench::new(true);
    let outputs = bench.seen("z", 5);
    let link = dialled(&outputs).expect("m is smaller than z");
    let dial = Output::Dial {
        peer: id("z"),
        session: session(5),
        link,
    };
    assert_eq!(outputs, [dial]);
    assert_eq!(bench.state("z"), Some(PeerState::Dialing));

    let mut bench = Bench::new(true);
    assert_eq!(bench.seen("a", 5), []);
    assert_eq!(bench.state("a"), Some(PeerState::Known));
    assert_eq!(bench.wait(SECOND), []);
    assert_eq!(bench.wait(SECOND), [ask()]);
    let waits = bench.wait(600 * SECOND).len();
    assert!(
        (10..40).contains(&waits),
        "asked {waits} times in ten minutes"
    );
}

#[test]
fn hearing_of_a_peer_again_does_not_dial_again_but_a_newer_session_does() {
    let mut bench = Bench::new(true);
    let first = dialled(&bench.seen("z", 5)).unwrap();
    assert_eq!(bench.seen("z", 5), []);
    assert_eq!(bench.seen("z", 4), [], "older: old news");
    let outputs = bench.seen("z", 6);
    assert_eq!(outputs[0], closed(first, CloseReason::Replaced));
    assert!(dialled(&outputs).is_some());
}

#[test]
fn nobody_links_with_itself_or_with_those_who_are_no_neighbours() {
    let only = Neighbours::Only([id("a"), id("z")].into());
    let mut bench = Bench::with(true, only);
    assert_eq!(bench.mesh.expected_links(), 2);
    assert_eq!(bench.seen("m", 5), []);
    assert_eq!(bench.seen("y", 5), []);
    assert_eq!(bench.offer("b", 5, 1), Err(SdpReason::UnknownSource));
    assert!(dialled(&bench.seen("z", 5)).is_some());
}

#[test]
fn who_left_is_not_dialled_and_who_is_back_is_dialled_at_once() {
    let mut bench = Bench::new(true);
    let first = dialled(&bench.seen("z", 5)).unwrap();
    bench.mesh.peer_left(&id("z"), session(4), bench.now);
    assert_eq!(bench.mesh.expected_links(), 1, "an older run left");
    bench.mesh.peer_left(&id("z"), session(5), bench.now);
    assert_eq!(bench.mesh.expected_links(), 0);
    let outputs = bench.wait(100 * SECOND);
    assert_eq!(outputs, [closed(first, CloseReason::DialTimeout)]);
    assert_eq!(bench.state("z"), Some(PeerState::Gone));
    assert!(dialled(&bench.seen("z", 5)).is_some());
}

#[test]
fn agent_left_is_a_hint_and_ends_no_link() {
    let mut bench = Bench::new(true);
    bench.seen("a", 5);
    bench.up(5, 1);
    bench.mesh.peer_left(&id("a"), session(5), bench.now);
    assert!(matches!(bench.outputs()[..], [Output::SendPing { .. }]));
    assert_eq!(bench.state("a"), Some(PeerState::Up));
}

#[test]
fn a_request_for_an_offer_dials_once_and_spares_a_fresh_link() {
    let mut bench = Bench::new(true);
    bench.mesh.please_offer(&id("z"), bench.now);
    assert_eq!(bench.outputs(), [], "its session is not known");
    let first = dialled(&bench.seen("z", 5)).unwrap();
    bench.mesh.please_offer(&id("z"), bench.now);
    assert_eq!(bench.outputs(), [], "one is being made");
    let now = bench.now;
    assert_eq!(bench.mesh.answer(&id("z"), session(5), first, now), Ok(()));
    bench.greet("z", 5, first, FIRST);
    bench.mesh.please_offer(&id("z"), bench.now);
    let asked = bench.outputs();
    assert!(
        matches!(asked[..], [Output::SendPing { .. }]),
        "it came up just now"
    );
    bench.answers("z", 5 * SECOND);
    bench.mesh.please_offer(&id("z"), bench.now);
    let second = dialled(&bench.outputs()).expect("the far end may have lost it");
    assert_eq!(bench.state("z"), Some(PeerState::Up), "kept meanwhile");
    assert!(bench.mesh.candidates(&id("z"), first));
    assert!(bench.mesh.candidates(&id("z"), second));
    bench.mesh.please_offer(&id("a"), bench.now);
    assert_eq!(bench.outputs(), [], "the larger never offers");
}

// Offers and answers.

#[test]
fn an_offer_is_refused_for_glare_age_or_repetition() {
    let mut bench = Bench::new(true);
    assert_eq!(bench.offer("z", 5, 1), Err(SdpReason::Glare));
    assert_eq!(bench.offer("m", 5, 1), Err(SdpReason::Glare));
    assert_eq!(bench.offer("a", 5, 1), Ok(()));
    assert_eq!(bench.state("a"), Some(PeerState::Answering));
    assert_eq!(bench.offer("a", 5, 1), Err(SdpReason::Replayed));
    assert_eq!(bench.offer("a", 4, 2), Err(SdpReason::OlderSession));
    assert_eq!(bench.offer("b", 5, 1), Err(SdpReason::Replayed), "in use");
    assert_eq!(bench.offer("a", 5, 2), Ok(()));
    let replaced = closed(link(1), CloseReason::Replaced);
    assert_eq!(bench.outputs(), [replaced]);
    assert_eq!(bench.offer("a", 5, 1), Err(SdpReason::Replayed), "once");
    assert!(!bench.mesh.candidates(&id("a"), link(1)));
    assert!(bench.mesh.candidates(&id("a"), link(2)));
    assert!(!bench.mesh.candidates(&id("b"), link(2)));
}

#[test]
fn an_answer_is_refused_unless_it_is_the_one_that_is_awaited() {
    let mut bench = Bench::new(true);
    let now = bench.now;
    let z = id("z");
    let answer = |bench: &mut Bench, from: &str, run, link| {
        bench.mesh.answer(&id(from), session(run), link, now)
    };
    let unknown = Err(SdpReason::UnknownLink);
    assert_eq!(answer(&mut bench, "z", 5, link(1)), unknown);
    let mine = dialled(&bench.seen("z", 5)).unwrap();
    bench.seen("y", 5);
    assert_eq!(answer(&mut bench, "z", 5, link(1)), unknown);
    assert_eq!(answer(&mut bench, "y", 5, mine), unknown);
    let wrong = Err(SdpReason::WrongSession);
    assert_eq!(answer(&mut bench, "z", 6, mine), wrong);
    assert_eq!(answer(&mut bench, "z", 4, mine), wrong);
    assert_eq!(answer(&mut bench, "z", 5, mine), Ok(()));
    assert_eq!(bench.state("z"), Some(PeerState::Opening));
    let replayed = Err(SdpReason::Replayed);
    assert_eq!(answer(&mut bench, "z", 5, mine), replayed);
    bench.greet("z", 5, mine, FIRST);
    assert_eq!(bench.mesh.answer(&z, session(5), mine, now), replayed);
    // An offer of theirs is not answered by them.
    bench.offer("a", 5, 9).unwrap();
    assert_eq!(answer(&mut bench, "a", 5, link(9)), unknown);
}

// The life of a link.

#[test]
fn a_link_is_up_when_hello_went_both_ways_in_whatever_order() {
    for hello_first in [false, true] {
        let mut bench = Bench::new(true);
        bench.offer("a", 5, 1).unwrap();
        let now = bench.now;
        let greet = |bench: &mut Bench| {
            let hello = bench.mesh.hello(link(1), &id("a"), session(5), FIRST, now);
            assert_eq!(hello, Ok(()));
        };
        if hello_first {
            greet(&mut bench);
            assert_eq!(bench.outputs(), []);
        }
        bench.mesh.link_open(link(1), now);
        bench.mesh.link_open(link(1), now);
        let hello = Output::SendHello {
            link: link(1),
            next: FIRST,
        };
        let up = Output::PeerUp {
            peer: id("a"),
            link: link(1),
        };
        if !hello_first {
            assert_eq!(bench.outputs(), [hello]);
            greet(&mut bench);
            assert_eq!(bench.outputs(), [up]);
        } else {
            assert_eq!(bench.outputs(), [hello, up]);
        }
        assert_eq!(bench.state("a"), Some(PeerState::Up));
        let again = bench.mesh.hello(link(1), &id("a"), session(5), FIRST, now);
        assert_eq!(again, Err(HelloError::Again { peer: id("a") }));
        assert_eq!(bench.mesh.open_links(), 1);
    }
}

#[test]
fn a_hello_of_another_agent_or_session_closes_the_link() {
    for (agent, run) in [("b", 5), ("a", 6), ("a", 4)] {
        let mut bench = Bench::new(true);
        bench.offer("a", 5, 1).unwrap();
        bench.mesh.link_open(link(1), bench.now);
        bench.outputs();
        let now = bench.now;
        let hello = bench
            .mesh
            .hello(link(1), &id(agent), session(run), FIRST, now);
        assert!(hello.is_err(), "{agent} {run}");
        let wrong = closed(link(1), CloseReason::WrongHello);
        assert_eq!(bench.outputs(), [wrong]);
        let hello = bench.mesh.hello(link(1), &id("a"), session(5), FIRST, now);
        assert_eq!(hello, Err(HelloError::UnknownLink { link: link(1) }));
    }
}

#[test]
fn a_newer_link_of_the_same_session_takes_over_only_when_its_channels_open() {
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    bench.offer("a", 5, 2).unwrap();
    assert_eq!(bench.outputs(), [], "an offer alone ends no link");
    bench.mesh.link_open(link(2), bench.now);
    let outputs = bench.outputs();
    assert_eq!(outputs[0], closed(link(1), CloseReason::Replaced));
    assert!(matches!(outputs[1], Output::PeerDown { .. }));
    assert!(matches!(outputs[2], Output::SendHello { .. }));
}

#[test]
fn an_offer_of_a_newer_session_ends_the_old_link_at_once() {
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    assert_eq!(
        bench.seen("a", 6),
        [],
        "what the server says alone does not"
    );
    bench.offer("a", 6, 2).unwrap();
    assert_eq!(
        bench.outputs()[0],
        closed(link(1), CloseReason::NewerSession)
    );
    assert_eq!(bench.state("a"), Some(PeerState::Answering));
}

#[test]
fn a_ping_is_answered_with_the_same_t() {
    let mut bench = Bench::new(true);
    bench.up(5, 1);
    bench.mesh.ping(link(1), 42, bench.now);
    let pong = Output::SendPong {
        link: link(1),
        t: 42,
    };
    assert_eq!(bench.outputs(), [pong]);
    bench.mesh.ping(link(9), 42, bench.now);
    assert_eq!(bench.outputs(), []);
}
