//! Which links need a relay: real agents behind real address translation, each kind with each.
//!
//! What a router is said to be is not believed: the host asks a STUN server, in the manner of RFC
//! 5780 and with a tool of others, and the test fails where the router is something else.

mod kind;
mod network;
mod swarm;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use kind::Kind;
use network::{Host, Network, SERVER};
use swarm::Swarm;

#[test]
fn behind_a_plain_masquerade_a_link_is_direct_and_with_a_symmetric_translator_it_needs_a_relay() {
    let matrix = matrix(&[Kind::PortRestricted, Kind::PortRestricted, Kind::Symmetric]);
    assert_eq!(matrix.len(), 2);
}

#[test]
#[ignore = "a longer run: tests/long.sh"]
fn each_kind_of_translation_with_each_is_direct_or_needs_a_relay_as_its_rfcs_say() {
    // Two of each, since each meets its own kind too.
    let kinds: Vec<_> = Kind::ALL.into_iter().flat_map(|kind| [kind; 2]).collect();
    let matrix = matrix(&kinds);
    assert_eq!(matrix.len(), 15);
}

#[test]
fn a_stun_server_whose_name_nobody_looks_up_costs_no_link() {
    let network = Network::new();
    network.silence_dns();
    let hosts = hosts(&network, &[Kind::None, Kind::None]);
    let swarm = Swarm::start(&network, &hosts, "stun.example.org");
    let fates = swarm.fates(&hosts);
    assert!(fates[0].1.is_some());
    assert!(network.dns_questions() > 0);
    let log = swarm.end();
    assert!(log.contains("stun.example.org:3478: timed out"), "{log}");
}

/// What is said of the links between two kinds, the smaller one first: `direct`, `relay needed`,
/// and the paths that their ends tell.
type Matrix = BTreeMap<(Kind, Kind), BTreeSet<String>>;

/// A swarm of agents behind routers of these kinds, all linked with all as far as that is
/// possible without a relay. Prints how, and checks it.
fn matrix(kinds: &[Kind]) -> Matrix {
    let network = Network::new();
    let stun = network.stun();
    let hosts = hosts(&network, kinds);
    let swarm = Swarm::start(&network, &hosts, SERVER);
    let fates = thread::scope(|scope| {
        for host in &hosts {
            scope.spawn(|| is_what_it_says(&network, host));
        }
        swarm.fates(&hosts)
    });
    let mut matrix = Matrix::new();
    for ((one, other), fate) in fates {
        let kinds = (one.kind.min(other.kind), one.kind.max(other.kind));
        let words = matrix.entry(kinds).or_default();
        let Some(paths) = fate else {
            words.insert("relay needed".to_owned());
            // Both have sent to where the other was said to be.
            for host in [one, other] {
                let dropped = network.unsolicited(host);
                assert!(dropped > 0, "{} has dropped nothing", host.name);
            }
            continue;
        };
        words.insert("direct".to_owned());
        words.extend(paths);
    }
    print(&matrix);
    for ((one, other), words) in &matrix {
        let has = |word: &str| words.contains(word);
        let direct = one.is_direct(*other);
        let ends = format!("{one:?} with {other:?}: {words:?}");
        assert_eq!(has("direct"), direct, "{ends}");
        assert_eq!(has("relay needed"), !direct, "{ends}");
        // Who has no router is at its own address for the other, which then need not notice that
        // it is behind a router itself. And a packet that overtakes the candidate it comes from
        // makes that one reflexive, where nothing was translated.
        let translated = [one, other].iter().any(|kind| **kind != Kind::None);
        let own = [one, other].iter().any(|kind| **kind == Kind::None);
        assert!(has("srflx") || !direct || !translated, "{ends}");
        assert!(own || !has("host"), "{ends}");
    }
    let log = swarm.end();
    assert!(!log.contains(" ERROR "), "{log}");
    drop(stun);
    matrix
}

fn hosts(network: &Network, kinds: &[Kind]) -> Vec<Host> {
    let host = |(at, kind): (usize, &Kind)| {
        let name = format!("{}-{}", kind.word(), at + 1);
        network.host(name, *kind, FIRST_NUMBER + at)
    };
    kinds.iter().enumerate().map(host).collect()
}

/// The router is of the kind that it was built to be.
fn is_what_it_says(network: &Network, host: &Host) {
    let (mapping, filtering, none) = network.discover(host);
    let found = (mapping.as_str(), filtering.as_str());
    assert_eq!(found, host.kind.discovered(), "{}", host.name);
    assert_eq!(none, host.kind == Kind::None, "{}", host.name);
}

fn print(matrix: &Matrix) {
    let kinds: BTreeSet<_> = matrix.keys().flat_map(|(a, b)| [*a, *b]).collect();
    let row = |name: &str, cells: Vec<String>| {
        let cells = cells.iter().map(|cell| format!("  {cell:<17}"));
        println!("{name:>11}{}", cells.collect::<String>());
    };
    row(
        "",
        kinds.iter().map(|kind| kind.word().to_owned()).collect(),
    );
    for one in &kinds {
        let cell = |other: &Kind| {
            let words = matrix.get(&(*one.min(other), *one.max(other)));
            words.map(|words| words.iter().cloned().collect::<Vec<_>>().join(" "))
        };
        row(
            one.word(),
            kinds
                .iter()
                .map(|other| cell(other).unwrap_or_default())
                .collect(),
        );
    }
}

/// Of the first host.
const FIRST_NUMBER: usize = 11;
