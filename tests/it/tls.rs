//! `wss://`: who reaches a server with a certificate, and what all others are told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ifswarm::agent::StartError;
use ifswarm::signal::{
    Admission, Census, CertificateFault, ConnectError, PemError, Server, ServerConfig, ServerTls,
    Trust,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::certificates::{Authority, Shown, Valid, authority_as_server};
use crate::cli::{Running, ifswarm, run};
use crate::live::{LiveAgent, builder, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_certificate_is_reached_by_agents_that_believe_its_authority_only() {
    within(async {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "authority", "ours");
        let shown = authority.certify("server", &["127.0.0.1"], Valid::Now);
        let mut server = Running::signal(&[
            "--open",
            "--listen",
            "127.0.0.1:0",
            "--tls-cert",
            text(&shown.cert),
            "--tls-key",
            text(&shown.key),
        ]);
        let line = server.line();
        let url = line.strip_prefix("listening on ").unwrap();
        assert!(url.starts_with("wss://127.0.0.1:"), "{line}");

        let believing = |id| {
            let trust = Trust::authority(&authority.path).unwrap();
            builder(id, url, folder.path()).trust(trust)
        };
        let ann = LiveAgent::start(believing("ann")).await;
        let bob = LiveAgent::start(believing("bob")).await;
        ann.agent.linked(1).await.unwrap();
        bob.agent.linked(1).await.unwrap();

        // The authorities of the system do not know this one, or there are none; both texts name
        // the flag. Another may have the same name, as after a renewal.
        let other = Authority::new(folder.path(), "other", "theirs");
        let twin = Authority::new(folder.path(), "twin", "ours");
        let private = |path| Trust::authority(path).unwrap();
        for trust in [Trust::system(), private(&other.path), private(&twin.path)] {
            let eve = builder("eve", url, folder.path()).witness(None);
            let err = eve.trust(trust).start().await.expect_err("not believed");
            assert!(err.to_string().contains("--ca FILE"), "{err}");
            assert!(matches!(err, StartError::Connect(_)), "{err}");
        }
        for live in [ann, bob] {
            live.agent.shutdown("the test is over").await.unwrap();
        }
        server.kill("TERM");
        let (code, _, stderr) = server.end();
        assert_eq!((code, stderr.as_str()), (0, ""));
    })
    .await;
}

#[test]
fn certificates_and_keys_that_cannot_be_used_are_told_before_anybody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let authority = Authority::new(folder.path(), "authority", "ours");
    let good = authority.certify("good", &["127.0.0.1"], Valid::Now);
    let other = authority.certify("other", &["127.0.0.1"], Valid::Now);
    let open = authority.certify("open", &["127.0.0.1"], Valid::Now);
    fs::set_permissions(&open.key, fs::Permissions::from_mode(0o640)).unwrap();
    let none = folder.path().join("none.pem");
    let der = file("der", b"\x30\x82\x01\x00");
    let cut = file("cut", b"-----BEGIN CERTIFICATE-----\nMIIB\n");
    let cut_key = file("cut-key", b"-----BEGIN PRIVATE KEY-----\nMIIB\n");
    let prose = file(
        "prose",
        b"-----BEGIN CERTIFICATE-----\nTm8gY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n",
    );
    let large = file("large", &[b'#'; 1024 * 1024 + 1]);
    for (cert, key, named, said) in [
        (&none, &good.key, &none, "No such file"),
        (&good.cert, &none, &none, "No such file"),
        (&good.key, &good.key, &good.key, "no certificate in it"),
        (&good.cert, &good.cert, &good.cert, "no private key in it"),
        (&good.cert, &other.key, &other.key, "does not belong to"),
        (&open.cert, &open.key, &open.key, "chmod 600"),
        (&der, &good.key, &der, "openssl x509"),
        (&cut, &good.key, &cut, "cut off"),
        (&good.cert, &cut_key, &cut_key, "cut off"),
        (&prose, &good.key, &prose, "cannot be used"),
        (&large, &good.key, &large, "larger than"),
    ] {
        let mut command = ifswarm();
        command.args(["signal", "--open", "--listen", "127.0.0.1:0", "--tls-cert"]);
        let (code, stdout, stderr) = run(command.arg(cert).arg("--tls-key").arg(key));
        assert_eq!((code, stdout.as_str()), (2, ""), "{said}: {stderr}");
        assert!(stderr.starts_with("error: "), "{stderr}");
        assert!(
            stderr.contains(said) && stderr.contains(text(named)),
            "{said}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    // The same on the side of the agents.
    for (path, said) in [(&none, "No such file"), (&good.key, "no certificate in it")] {
        let err: PemError = Trust::authority(path).unwrap_err();
        let told = err.to_string();
        assert!(told.contains(said) && told.contains(text(path)), "{told}");
    }
}

#[tokio::test]
async fn a_server_is_believed_only_under_its_name_and_in_its_time() {
    within(async {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "authority", "ours");
        let certify = |name: &str, valid: Valid| {
            // `with_extension` must not take the name apart.
            let file = format!("{}-{valid:?}", name.replace('.', "-"));
            authority.certify(&file, &[name], valid)
        };
        for (shown, trusted, expected) in [
            (certify("127.0.0.1", Valid::Now), &authority.path, None),
            (
                certify("127.0.0.1", Valid::NoLonger),
                &authority.path,
                Some(CertificateFault::Expired),
            ),
            (
                certify("127.0.0.1", Valid::NotYet),
                &authority.path,
                Some(CertificateFault::NotYetValid),
            ),
            (
                certify("signal.example", Valid::Now),
                &authority.path,
                Some(CertificateFault::OtherName {
                    dialled: "127.0.0.1".into(),
                    names: "signal.example".into(),
                }),
            ),
            (
                certify("127.0.0.9", Valid::Now),
                &authority.path,
                Some(CertificateFault::OtherName {
                    dialled: "127.0.0.1".into(),
                    names: "127.0.0.9".into(),
                }),
            ),
            (
                authority_as_server(folder.path()),
                &folder.path().join("self.crt"),
                Some(CertificateFault::OfAnAuthority),
            ),
        ] {
            let server = serve(&shown).await;
            let trust = Trust::authority(trusted).unwrap();
            let agent = builder("ann", &server.url(), folder.path()).witness(None);
            match (agent.trust(trust).start().await, expected) {
                (Ok(agent), None) => drop(agent.shutdown("the test is over").await.unwrap()),
                (Err(StartError::Connect(ConnectError::Certificate { fault, url })), Some(e)) => {
                    assert_eq!(fault, e);
                    assert!(url.starts_with(&server.url()), "{url}");
                }
                (Ok(_), Some(expected)) => panic!("believed in spite of {expected:?}"),
                (Err(err), expected) => panic!("{err}, expected {expected:?}"),
            }
            server.shutdown().await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_dials_ws_where_wss_is_spoken_or_the_other_way_round_is_told_so() {
    within(async {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "authority", "ours");
        let secured = serve(&authority.certify("server", &["127.0.0.1"], Valid::Now)).await;
        let listen = "127.0.0.1:0".parse().unwrap();
        let plain = Server::bind(ServerConfig::new(listen, Admission::Open))
            .await
            .unwrap();
        let fail = async |url: String| {
            let trust = Trust::authority(&authority.path).unwrap();
            let agent = builder("ann", &url, folder.path()).witness(None);
            match agent.trust(trust).start().await {
                Err(StartError::Connect(err)) => err,
                Err(err) => panic!("{err}"),
                Ok(_) => panic!("{url} connected"),
            }
        };
        let err = fail(secured.url().replace("wss://", "ws://")).await;
        assert!(matches!(err, ConnectError::NeedsTls { .. }), "{err}");
        assert!(err.to_string().contains("dial wss://"), "{err}");
        let err = fail(plain.url().replace("ws://", "wss://")).await;
        assert!(matches!(err, ConnectError::NoTls { .. }), "{err}");
        assert!(err.to_string().contains("--tls-cert"), "{err}");
        secured.shutdown().await;
        plain.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn who_fails_to_shake_hands_leaves_nothing_behind() {
    within(async {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "authority", "ours");
        let server = serve(&authority.certify("server", &["127.0.0.1"], Valid::Now)).await;
        for _ in 0..20 {
            // The beginning of a record, a record that is none, an alert, plain HTTP, nothing.
            for bytes in [
                &b"\x16\x03\x01\x40"[..],
                b"\x16\x03\x01\x00\x04oops",
                b"\x15\x03\x01\x00\x02\x02\x28",
                b"GET /v1/live HTTP/1.1\r\n\r\n",
                b"",
            ] {
                let mut tcp = TcpStream::connect(server.local_addr()).await.unwrap();
                tcp.write_all(bytes).await.unwrap();
            }
            // An agent that believes other authorities breaks off.
            let trust = Trust::authority(&Authority::new(folder.path(), "o", "o").path).unwrap();
            let agent = builder("ann", &server.url(), folder.path()).witness(None);
            agent.trust(trust).start().await.expect_err("not believed");
        }
        // The server's tasks run while this yields.
        while server.census() != Census::default() {
            tokio::task::yield_now().await;
        }
        let trust = Trust::authority(&authority.path).unwrap();
        let agent = builder("ann", &server.url(), folder.path()).trust(trust);
        let agent = agent.start().await.expect("the server lives on");
        assert_eq!(server.census().agents, 1);
        agent.shutdown("the test is over").await.unwrap();
        server.shutdown().await;
    })
    .await;
}

#[test]
fn a_server_with_a_certificate_and_a_name_may_listen_everywhere_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority", "ours");
    let shown = authority.certify("server", &["signal.example"], Valid::Now);
    let named = [
        "--open",
        "--listen",
        "0.0.0.0:0",
        "--name",
        "signal.example:443",
    ];
    let secured = [
        "--tls-cert",
        text(&shown.cert),
        "--tls-key",
        text(&shown.key),
    ];
    let mut server = Running::signal(&[&named[..], &secured].concat());
    let line = server.line();
    assert!(line.starts_with("listening on wss://0.0.0.0:"), "{line}");
    server.kill("TERM");
    let (code, _, stderr) = server.end();
    assert_eq!((code, stderr.as_str()), (0, ""));
}

/// An open server that shows this.
async fn serve(shown: &Shown) -> Server {
    let mut config = ServerConfig::new("127.0.0.1:0".parse().unwrap(), Admission::Open);
    config.tls = Some(ServerTls::read(&shown.cert, &shown.key).unwrap());
    Server::bind(config).await.unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
