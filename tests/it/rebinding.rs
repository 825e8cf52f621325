//! An endpoint whose addresses change while it lives.

use std::future::poll_fn;
use std::net::IpAddr;
use std::task::Poll;

use ifswarm::link::{ChannelOptions, Endpoint, EndpointConfig, Link, LinkEvent, LinkEvents};

use crate::live::within;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_change_of_addresses_links_are_made_from_the_new_one_and_say_its_real_port() {
    within(async {
        let (a, b) = (bind(1), bind(1));
        let number = a.addresses()[0].port();
        let (old, _, _) = link(&a, &b).await;
        let rebound = a.rebind(&[ip(2)]);
        assert_eq!((rebound.added.len(), rebound.removed.len()), (1, 1));
        let (new, mut far, offer) = link(&a, &b).await;
        let own = format!(" 127.0.0.2 {} typ host", rebound.added[0].port());
        assert_eq!(rebound.added[0].port(), number);
        assert!(offer.contains(&own), "{own} is not in {offer}");
        assert!(!offer.contains(" 127.0.0.1 "), "{offer}");
        new.near.send_message("from the new address").await.unwrap();
        loop {
            if let LinkEvent::Message { bytes, .. } = far.recv(true).await {
                assert_eq!(&bytes[..], b"from the new address");
                break;
            }
        }
        for link in [old, new] {
            link.near.close().await;
        }
        a.close().await;
        b.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_address_a_link_is_refused_and_with_one_again_made() {
    within(async {
        let (a, b) = (bind(1), bind(1));
        a.rebind(&[]);
        let refused = a.dial(&"peer".parse().unwrap()).await.err();
        let refused = refused.expect("no address, no link").to_string();
        assert!(refused.contains("no address"), "{refused}");
        assert_eq!(a.usage().connections, 0);
        a.rebind(&[ip(1)]);
        link(&a, &b).await;
        a.close().await;
        b.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_given_up_while_it_is_made_leaves_nothing_at_the_port() {
    within(async {
        let (a, b) = (bind(1), bind(1));
        let before = (a.usage(), b.usage());
        let (near, _, offer) = a.dial(&"b".parse().unwrap()).await.unwrap();
        near.close().await;
        // Given up at each of the points where it waits, until it is made before that.
        let mut given_up = 0;
        for polls in 1.. {
            let (ann, bob) = ("a".parse().unwrap(), "b".parse().unwrap());
            let dialled = after_polls(polls, a.dial(&bob)).await;
            let answered = after_polls(polls, b.answer(&ann, &offer)).await;
            given_up += u32::from(!dialled) + u32::from(!answered);
            if dialled && answered {
                break;
            }
        }
        assert!(given_up > 2, "{given_up}");
        while (a.usage(), b.usage()) != before {
            tokio::task::yield_now().await;
        }
        a.close().await;
        b.close().await;
    })
    .await;
}

/// Whether `future` is ready when it was polled so often, each time it asked for it; then it is
/// dropped.
async fn after_polls(polls: u32, future: impl Future) -> bool {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(|cx| {
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Both ends of a link, which lives as long as they do.
struct Ends {
    near: Link,
    _far: Link,
}

/// An open link from `a` to `b`, what happens at its far end, and the offer.
async fn link(a: &Endpoint, b: &Endpoint) -> (Ends, LinkEvents, String) {
    let (near, mut events, offer) = a.dial(&"b".parse().unwrap()).await.unwrap();
    let (far, mut far_events, answer) = b.answer(&"a".parse().unwrap(), &offer).await.unwrap();
    near.accept(&answer).await.unwrap();
    while events.recv(true).await != LinkEvent::Open {}
    while far_events.recv(true).await != LinkEvent::Open {}
    (Ends { near, _far: far }, far_events, offer)
}

/// An endpoint at `127.0.0.LAST`.
pub(crate) fn bind(last: u8) -> Endpoint {
    Endpoint::bind(EndpointConfig {
        addresses: vec![ip(last)],
        udp_port: None,
        ice_servers: Vec::new(),
        channel: ChannelOptions::default(),
    })
    .unwrap()
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}
