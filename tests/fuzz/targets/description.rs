//! The text of an offer or answer, as it is handed to the WebRTC engine: `Endpoint::answer`,
//! `Link::accept`, `Link::add_candidate`. Whoever signs it may have written anything.
//!
//! Nothing leaves the host: the only socket is bound to the loopback address.

use std::cell::{Cell, LazyCell};
use std::net::Ipv4Addr;
use std::panic;
use std::sync::Once;

use ifswarm::identity::AgentId;
use ifswarm::link::{CandidateLine, ChannelOptions, Endpoint, EndpointConfig, LinkError};
use tokio::runtime::{Builder, Runtime};

use super::oracle::assert_one_line;

pub(super) fn target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    count_panics();
    HERE.with(|here| here.0.block_on(applied(&here.1, text)));
    // tokio keeps the panic of a task from the thread, and so from whoever runs the target.
    assert_eq!(PANICS.get(), 0, "a task of the link has panicked");
}

/// As an offer, as an answer, and each of its lines as a candidate.
async fn applied(endpoint: &Endpoint, text: &str) {
    let peer: AgentId = "peer".parse().expect("an id");
    match endpoint.answer(&peer, text).await {
        Err(err) => explained(&err),
        Ok((link, _events, answer)) => {
            assert!(answer.starts_with("v=0"), "{answer}");
            assert!(link.max_message() <= ChannelOptions::default().max_message);
            for line in text.lines() {
                let candidate = CandidateLine {
                    candidate: line.trim_start_matches("a=").into(),
                    sdp_mid: None,
                    sdp_mline_index: Some(0),
                };
                if let Err(err) = link.add_candidate(candidate).await {
                    explained(&err);
                }
            }
            link.close().await;
        }
    }
    let dialled = endpoint.dial(&peer).await;
    let (link, _events, _offer) = dialled.expect("an offer depends on nobody");
    if let Err(err) = link.accept(text).await {
        explained(&err);
    }
    link.close().await;
}

fn explained(err: &LinkError) {
    assert!(matches!(err, LinkError::BadSdp { .. }), "{err}");
    assert_one_line(&err.to_string(), MAX_DETAIL);
}

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
    PANICS.set(0);
}

thread_local! {
    static PANICS: Cell<usize> = const { Cell::new(0) };
    /// All tasks run on the thread that waits for them.
    static HERE: LazyCell<(Runtime, Endpoint)> = LazyCell::new(|| {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let config = EndpointConfig {
            addresses: vec![Ipv4Addr::LOCALHOST.into()],
            udp_port: None,
            ice_servers: Vec::new(),
            channel: ChannelOptions::default(),
        };
        let endpoint = runtime.block_on(async { Endpoint::bind(config) });
        (runtime, endpoint.expect("a free port on the loopback address"))
    });
}

/// The bound that `link` promises, and its own words.
const MAX_DETAIL: usize = 350;
