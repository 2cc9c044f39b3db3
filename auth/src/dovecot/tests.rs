//! Against a Dovecot that lies, hangs up and raves; the real one is asked in the end-to-end tests.

use super::line::Answer;
use super::*;
use std::net::IpAddr;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

const HELLO: &str = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tANONYMOUS\tanonymous\nMECH\tLOGIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\tx\nDONE\n";

struct Fake {
    listener: UnixListener,
    folder: TempDir,
}

struct Peer(BufReader<UnixStream>);

impl Fake {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { listener: UnixListener::bind(folder.path().join("auth")).unwrap(), folder }
    }

    fn client(&self) -> Arc<Dovecot> {
        Arc::new(Dovecot::new(&self.folder.path().join("auth")))
    }

    /// The next connection, which is told this; gives what it said.
    async fn accept(&self, hello: &[u8]) -> Peer {
        let mut peer = Peer(BufReader::new(self.listener.accept().await.unwrap().0));
        peer.say(hello).await;
        assert_eq!(peer.hear().await, "VERSION\t1\t1");
        assert!(peer.hear().await.starts_with("CPID\t"));
        peer
    }
}

impl Peer {
    async fn say(&mut self, text: &[u8]) {
        // The other side may have hung up.
        let _ = self.0.write_all(text).await;
    }

    async fn hear(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.trim_end_matches('\n').to_owned()
    }
}

const CHANNEL: Channel = Channel {
    tls: true,
    plaintext_allowed: false,
    binding: None,
    client: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)),
    local: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
};

/// In which words it fails, for what Dovecot says at first.
async fn failure(hello: &[u8]) -> String {
    let fake = Fake::new();
    let client = fake.client();
    let (failed, _) = tokio::join!(client.prepare(), async {
        let peer = fake.accept(hello).await;
        drop(peer);
    });
    let why = failed.unwrap_err();
    assert!(why.contains(&fake.folder.path().join("auth").display().to_string()), "{why}");
    why
}

#[tokio::test]
async fn who_does_not_speak_the_protocol_is_told_so() {
    for (hello, says) in [
        (&b"VERSION\t2\t0\nDONE\n"[..], "speaks version 2"),
        (b"MECH\tPLAIN\nDONE\n", "no version"),
        (b"VERSION\tx\n", "no number"),
        (b"220 mail ESMTP\r\nDONE\n", "no version"),
        (b"", "hung up"),
        (b"VERSION\t1\t2\nMECH\tPLAIN", "a line without end"),
        (&[b'x'; 70 << 10], "a line without end"),
        (&b"MECH\tPLAIN\n".repeat(300), "without end"),
        (b"OK\t\x1b\n", "without number"),
    ] {
        let why = failure(hello).await;
        assert!(why.contains(says) && !why.contains('\x1b'), "{says}: {why}");
    }
    let nobody = Dovecot::new(Path::new("/nonexistent/auth"));
    let why = nobody.prepare().await.unwrap_err();
    assert_eq!(why, "Dovecot behind /nonexistent/auth: No such file or directory (os error 2)");
}

#[tokio::test]
async fn mechanisms_are_the_simplest_until_dovecot_has_said_its_own() {
    let fake = Fake::new();
    let client = fake.client();
    assert_eq!(client.mechanisms(), ["PLAIN", "LOGIN"]);
    let _peer =
        fake.accept(b"VERSION\t1\t2\nMECH\tSCRAM-SHA-256\nMECH\tEXTERNAL\nMECH\tSCRAM-SHA-256\nDONE\n").await;
    client.prepare().await.unwrap();
    assert_eq!(client.mechanisms(), ["SCRAM-SHA-256"]);
}

#[tokio::test]
async fn answers_find_those_who_wait_for_them() {
    let fake = Fake::new();
    let client = fake.client();
    let ask = |name: &'static str| {
        let client = client.clone();
        async move { client.begin("PLAIN", &CHANNEL, Some(name.as_bytes())).await }
    };
    let (first, second, third, mut peer) = tokio::join!(ask("aaa"), ask("bbb"), ask("ccc"), async {
        let mut peer = three_requests(&fake).await;
        let [a, b, c] = peer.1.clone();
        // In another order, with answers to nobody in between.
        let text = format!(
            "FAIL\t{c}\tuser=ccc\nOK\t4000000\tuser=eve\nFAIL\t0\nSPID\t1\nOK\t{b}\tuser=bbb\nOK\t{b}\tuser=eve\nCONT\t{a}\tYQ==\n"
        );
        peer.0.say(text.as_bytes()).await;
        peer
    },);
    assert_eq!(second.unwrap().1, Answer::Ok("bbb".into(), None));
    assert!(matches!(third.unwrap().1, Answer::Fail(fail) if fail.user.as_deref() == Some("ccc")));
    let (mut request, answer) = first.unwrap();
    assert_eq!(answer, Answer::Continue(b"a".to_vec()));
    let id = peer.1[0].clone();
    let (last, ()) = tokio::join!(client.go_on(&mut request, b"xyz"), async {
        assert_eq!(peer.0.hear().await, format!("CONT\t{id}\teHl6"));
        peer.0.say(format!("CONT\t{id}\t\n").as_bytes()).await;
    });
    assert_eq!(last.unwrap(), Answer::Continue(Vec::new()));
    // A session that goes leaves nothing behind.
    drop(request);
    assert_eq!(peer.0.hear().await, format!("CANCEL\t{id}"));
}

/// Three requests, by what they bring.
async fn three_requests(fake: &Fake) -> (Peer, [String; 3]) {
    let mut peer = fake.accept(HELLO.as_bytes()).await;
    let mut ids = [const { String::new() }; 3];
    for _ in 0..3 {
        let line = peer.hear().await;
        assert!(line.contains("\tsecured\tlip=127.0.0.1\trip=192.0.2.7\tresp="), "{line}");
        let place = ["YWFh", "YmJi", "Y2Nj"].iter().position(|end| line.ends_with(end)).unwrap();
        ids[place] = line.split('\t').nth(1).unwrap().to_owned();
    }
    (peer, ids)
}

#[tokio::test]
async fn a_dovecot_that_goes_is_a_temporary_failure_and_found_again() {
    let fake = Fake::new();
    let client = fake.client();
    // It goes between two logins: the next one does not notice.
    let (prepared, peer) = tokio::join!(client.prepare(), fake.accept(HELLO.as_bytes()));
    prepared.unwrap();
    drop(peer);
    let (answer, mut peer) = tokio::join!(client.begin("LOGIN", &CHANNEL, None), async {
        let mut peer = fake.accept(HELLO.as_bytes()).await;
        let line = peer.hear().await;
        assert!(!line.contains("resp"), "{line}");
        let id = line.split('\t').nth(1).unwrap();
        peer.say(format!("CONT\t{id}\tVXNlcm5hbWU6\n").as_bytes()).await;
        peer
    });
    let (mut request, answer) = answer.unwrap();
    assert_eq!(answer, Answer::Continue(b"Username:".to_vec()));
    // It goes in the middle of one: the client has to come again.
    let (answer, ()) = tokio::join!(client.go_on(&mut request, b"joe"), async {
        peer.hear().await;
        drop(peer);
    });
    assert!(matches!(answer, Err(Failure::Unavailable(why)) if why.contains("closed")));
    // It raves in the middle of one.
    let (answer, ()) = tokio::join!(client.begin("PLAIN", &CHANNEL, Some(b"x")), async {
        let mut peer = fake.accept(HELLO.as_bytes()).await;
        peer.hear().await;
        peer.say(b"CONT\t1\t!!!\n").await;
        let mut rest = Vec::new();
        peer.0.read_to_end(&mut rest).await.unwrap();
        // One more attempt, with a new connection; then that is that.
        let mut peer = fake.accept(HELLO.as_bytes()).await;
        peer.hear().await;
        peer.say(&[b'x'; 70 << 10]).await;
    });
    assert!(matches!(answer, Err(Failure::Unavailable(_))));
}

#[tokio::test]
async fn what_is_too_long_for_dovecot_is_refused_before_it() {
    let fake = Fake::new();
    let client = fake.client();
    let (answer, _peer) =
        tokio::join!(client.begin("PLAIN", &CHANNEL, Some(&[b'x'; 9000])), fake.accept(HELLO.as_bytes()));
    assert!(matches!(answer, Err(Failure::Malformed(_))));
}
