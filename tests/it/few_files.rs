//! A server that may have few files open: one address takes no more than its share of them, and the
//! log says once what to do.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Command, Stdio};

#[test]
fn one_address_cannot_take_all_the_files_that_an_open_server_may_have() {
    let mut server = Command::new("sh")
        .args([
            "-c",
            r#"ulimit -n 200 && exec "$0" signal --open --listen 127.0.0.1:0"#,
            env!("CARGO_BIN_EXE_ifswarm"),
        ])
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut listening = String::new();
    let mut stdout = BufReader::new(server.stdout.take().unwrap());
    stdout.read_line(&mut listening).unwrap();
    let address = listening.trim().rsplit_once("ws://").unwrap().1;

    // More than it has files for, and all of them say nothing.
    let sockets: Vec<_> = (0..300)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    // Its share of the places for strangers is two; who has none is told so.
    for mut socket in &sockets[2..] {
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 503");
    }

    server.kill().unwrap();
    let mut log = String::new();
    let mut stderr = server.stderr.take().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    server.wait().unwrap();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("LimitNOFILE="), "{log}");
}
