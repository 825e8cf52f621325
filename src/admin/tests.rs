//! The admin server over real sockets.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::agent::{Coverage, RoundTrips};

/// Well or not, and with one number of each kind.
struct Fake(Result<(), &'static str>);

impl Watched for Fake {
    fn health(&self) -> Result<(), &'static str> {
        self.0
    }

    fn page(&self) -> Page {
        let mut page = Page::default();
        page.counter("a_total", "Help with a \\ and\na line.", 7);
        page.counters("b_total", "B.", "reason", [("x", 1), ("y", 2)]);
        page.gauge("c", "C.", 0.5);
        let mut trips = RoundTrips::default();
        trips.record(std::time::Duration::from_millis(3));
        page.round_trips("d_seconds", "D.", &trips);
        page
    }
}

async fn start(health: Result<(), &'static str>) -> Admin {
    let anywhere = "127.0.0.1:0".parse().unwrap();
    Admin::start(anywhere, Arc::new(Fake(health)))
        .await
        .unwrap()
}

/// What the server says to `request` until it closes the connection.
async fn ask(admin: &Admin, request: &str) -> String {
    let mut tcp = TcpStream::connect(admin.local_addr()).await.unwrap();
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // It may close while there is more to read for it.
    match tcp.read_to_string(&mut answer).await {
        Ok(_) => {}
        Err(err) => assert_eq!(err.kind(), ErrorKind::ConnectionReset),
    }
    answer
}

async fn get(admin: &Admin, path: &str) -> String {
    // HTTP/1.1, where a connection would be kept: the server closes it.
    ask(admin, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
}

#[tokio::test]
async fn health_is_200_or_503_with_the_reason() {
    let answer = get(&start(Ok(())).await, "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    let answer = get(&start(Err("no disk")).await, "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nno disk\n"), "{answer}");
}

#[tokio::test]
async fn metrics_are_in_the_text_format_whatever_the_health() {
    for (health, healthy) in [(Ok(()), 1), (Err("no disk"), 0)] {
        let answer = get(&start(health).await, "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(
            answer.contains("content-type: text/plain; version=0.0.4"),
            "{answer}"
        );
        for line in [
            "# HELP a_total Help with a \\\\ and\\na line.",
            "# TYPE a_total counter",
            "a_total 7",
            "b_total{reason=\"y\"} 2",
            "c 0.5",
            "# TYPE d_seconds histogram",
            "d_seconds_bucket{le=\"0.0025\"} 0",
            "d_seconds_bucket{le=\"0.005\"} 1",
            "d_seconds_bucket{le=\"+Inf\"} 1",
            "d_seconds_sum 0.003",
            "d_seconds_count 1",
            &format!("ifswarm_healthy {healthy}"),
        ] {
            assert!(
                answer.lines().any(|found| found == line),
                "{line}\n{answer}"
            );
        }
    }
}

#[tokio::test]
async fn other_paths_and_methods_and_what_is_no_http_are_refused() {
    let admin = start(Ok(())).await;
    for (request, status) in [
        ("GET / HTTP/1.0\r\n\r\n", "404"),
        ("GET /metrics/../healthz HTTP/1.0\r\n\r\n", "404"),
        ("POST /healthz HTTP/1.0\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let answer = ask(&admin, request).await;
        let found = answer.split(' ').nth(1);
        assert_eq!(found, Some(status), "{request:?}: {answer}");
    }
    // And it is as well as before.
    assert!(get(&admin, "/healthz").await.contains("200 OK"));
}

#[tokio::test]
async fn more_come_than_there_are_places_and_all_are_answered_in_turn() {
    let admin = start(Ok(())).await;
    let mut idle = Vec::new();
    for _ in 0..visit::PLACES {
        idle.push(TcpStream::connect(admin.local_addr()).await.unwrap());
    }
    // All places are taken; this one waits at the door.
    let mut late = TcpStream::connect(admin.local_addr()).await.unwrap();
    late.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    // One of the others goes.
    drop(idle.pop());
    let mut answer = String::new();
    late.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_what_to_do() {
    let admin = start(Ok(())).await;
    let err = Admin::start(admin.local_addr(), Arc::new(Fake(Ok(()))))
        .await
        .unwrap_err()
        .to_string();
    assert!(err.contains(&admin.local_addr().to_string()), "{err}");
    assert!(err.contains("127.0.0.1:0"), "{err}");
}

#[test]
fn who_has_not_started_is_not_well_and_has_a_page_all_the_same() {
    let agent = AgentWatch::default();
    assert!(agent.health().unwrap_err().contains("not registered yet"));
    assert!(agent.page().finish(false).contains("ifswarm_healthy 0"));
    let missing = || Coverage {
        missing: 3,
        ..Coverage::default()
    };
    let server = ServerWatch::new(Some(Box::new(missing)));
    assert!(server.health().unwrap_err().contains("does not listen yet"));
    let page = server.page().finish(false);
    assert!(page.contains("ifswarm_witness_missing_entries 3"), "{page}");
    assert!(
        page.contains("ifswarm_witness_checkpoint_age_seconds NaN"),
        "{page}"
    );
}
