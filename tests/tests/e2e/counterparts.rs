//! The servers that the other tests rely on do what those tests expect of them. No Ironpost here.

use std::net::{Ipv4Addr, UdpSocket};

use ironpost_tests::client::Client;
use ironpost_tests::counterpart::dns::Zone;
use ironpost_tests::counterpart::postfix::Postfix;
use ironpost_tests::counterpart::script::{Act, Script, Server};
use ironpost_tests::counterpart::sink::{Sink, dumped, smtp_source};
use ironpost_tests::mailbox::assert_same;
use ironpost_tests::{clients, is_root, skipped};

#[test]
fn postfix_takes_and_delivers() {
    if !is_root() {
        return skipped("postfix_takes_and_delivers", "Postfix's master runs only as root");
    }
    let postfix = Postfix::start(Ipv4Addr::LOCALHOST, "");
    clients::swaks(postfix.address(), "a@client.test", &["u@remote.test"], "Subject: hello\n\nHello.\n", &[])
        .ok();
    let mail = postfix.wait_mail(1);
    assert_eq!(mail[0].header("Subject").as_deref(), Some("hello"));
}

#[test]
fn smtp_sink_dumps_what_smtp_source_sends() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let dump = folder.path().join("dump");
    let mut sink = Sink::start(&["-D", dump.to_str().unwrap()]);
    smtp_source(sink.address(), &["-s", "5", "-m", "20", "-f", "a@client.test", "-t", "u@remote.test"]).ok();
    assert_eq!(dumped(&dump).len(), 20);
    assert!(sink.runs());
}

#[test]
fn a_script_refuses_counts_and_keeps_every_byte() {
    let script = Script::new().times(1, "RCPT", "later@", Act::Reply("450 4.2.0 later")).about(
        "RCPT",
        "never@",
        Act::Reply("550 5.1.1 never"),
    );
    let server = Server::start(script);
    let mut client = Client::connect(server.address());
    client.expect("EHLO a.test", "250-scripted.test\n250-PIPELINING");
    client.expect("MAIL FROM:<a@b.test>", "250");
    client.expect("RCPT TO:<later@b.test>", "450");
    client.expect("RCPT TO:<never@b.test>", "550");
    client.expect("RCPT TO:<later@b.test>", "250");
    client.expect("DATA", "354");
    let content = b"..dots\r\n.\r\n\r\nend\r\n";
    assert_eq!(client.content(content), "250 2.0.0 ok: taken");
    let taken = server.wait(1);
    assert_eq!(taken[0].recipients, ["later@b.test"]);
    assert_eq!(taken[0].mail, "<a@b.test>");
    assert_same(&taken[0].content, content);
}

#[test]
fn dnsmasq_answers_and_fails_as_told() {
    let dns = Zone::new()
        .mx("relay.test", 10, "mx.test")
        .host("mx.test", Ipv4Addr::new(127, 0, 0, 9))
        .null_mx("null.test")
        .servfail("broken.test")
        .silent("silent.test")
        .serve();
    // Name, type, and what comes of it: response code and number of answers; none when no answer comes.
    for (name, kind, expected) in [
        ("relay.test", 15, Some((0, 1))),
        ("mx.test", 1, Some((0, 1))),
        ("mx.test", 28, Some((0, 0))),
        ("null.test", 15, Some((0, 1))),
        ("nowhere.test", 15, Some((3, 0))),
        ("broken.test", 15, Some((2, 0))),
        ("silent.test", 15, None),
    ] {
        assert_eq!(ask(dns.address(), name, kind), expected, "{name} {kind}");
    }
    assert_eq!(dns.questions("MX", "relay.test"), 1);
}

/// Asks a name server one question (RFC 1035 4.1): response code and number of answers, none after half a
/// second.
fn ask(server: std::net::SocketAddr, name: &str, kind: u8) -> Option<(u8, u8)> {
    let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, kind, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    socket.send_to(&packet, server).unwrap();
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    assert!(length >= 12);
    Some((answer[3] & 0x0f, answer[7]))
}
