//! An endpoint whose addresses change while it lives.

use std::net::IpAddr;

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

fn bind(last: u8) -> Endpoint {
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
