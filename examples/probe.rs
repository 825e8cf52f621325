//! scratch
use ifswarm::link::*;
use std::time::Instant;
#[tokio::main]
async fn main() {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .init();
    let cfg = || EndpointConfig {
        addresses: vec!["127.0.0.1".parse().unwrap()],
        udp_port: None,
        ice_servers: vec![],
        channel: ChannelOptions {
            ordered: true,
            max_retransmits: None,
            max_message: 65536,
        },
    };
    for round in 0..6 {
        let a = Endpoint::bind(cfg()).unwrap();
        let b = Endpoint::bind(cfg()).unwrap();
        if round == 0 {
            println!("buffer {} {:?}", a.receive_buffer(), a.addresses());
        }
        let t = Instant::now();
        let (la, mut ea, offer) = a.dial(&"b".parse().unwrap()).await.unwrap();
        if round == 0 {
            println!("{offer}");
        }
        let t1 = t.elapsed();
        let (lb, mut eb, answer) = b.answer(&"a".parse().unwrap(), &offer).await.unwrap();
        let t2 = t.elapsed();
        la.accept(&answer).await.unwrap();
        let t3 = t.elapsed();
        let wait = async |e: &mut LinkEvents, n: &str, t: Instant| loop {
            match e.recv().await {
                LinkEvent::Open => {
                    println!("{n} open {:?}", t.elapsed());
                    break;
                }
                other => println!("{n} {other:?} {:?}", t.elapsed()),
            }
        };
        tokio::join!(wait(&mut ea, "a", t), wait(&mut eb, "b", t));
        println!(
            "dial {t1:?} answer {t2:?} accept {t3:?} open {:?} path {}",
            t.elapsed(),
            la.path().await
        );
        let payload = "x".repeat(500);
        let lb2 = lb.clone();
        let echo = tokio::spawn(async move {
            loop {
                match eb.recv().await {
                    LinkEvent::Message { bytes, .. } => {
                        lb2.send_message(std::str::from_utf8(&bytes).unwrap())
                            .await
                            .unwrap();
                    }
                    LinkEvent::Closed => break,
                    _ => {}
                }
            }
        });
        let mut h = vec![];
        for _ in 0..2000 {
            let s = Instant::now();
            la.send_message(&payload).await.unwrap();
            loop {
                if let LinkEvent::Message { .. } = ea.recv().await {
                    break;
                }
            }
            h.push(s.elapsed());
        }
        h.sort();
        println!(
            "rtt p50 {:?} p95 {:?} p99 {:?} max {:?}",
            h[1000], h[1900], h[1980], h[1999]
        );
        let s = Instant::now();
        la.close().await;
        println!("close {:?}", s.elapsed());
        lb.close().await;
        echo.await.unwrap();
        a.close().await;
        b.close().await;
    }
}
