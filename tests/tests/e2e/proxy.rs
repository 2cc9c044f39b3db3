//! The PROXY protocol with real senders: curl speaks version 1, Python's `struct` makes version 2.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;

use ironpost_tests::client::Client;
use ironpost_tests::net::{connect_from, own_address};
use ironpost_tests::process::run;
use ironpost_tests::setup::Setup;
use ironpost_tests::tools::python;

#[test]
fn curl_is_understood_behind_a_proxy_of_its_own() {
    let ironpost = Setup::new().proxied().start();
    let mut command = Command::new("curl");
    let url = format!("smtp://{}/client.test", ironpost.smtp());
    command.args(["--silent", "--show-error", "--haproxy-protocol", "--url", &url]);
    command.args(["--mail-from", "a@client.test", "--mail-rcpt", "alice@example.test", "--upload-file", "-"]);
    run(&mut command, b"Subject: x\r\n\r\nx\r\n").ok();
    ironpost.wait_mail("alice", 1);
    ironpost.log.wait("the client", |line| line.contains("client=localhost[127.0.0.1]").then_some(()));
}

/// A header made by hand, then smtplib; prints what RCPT is answered.
const VERSION_2: &str = "
import smtplib, socket, struct, sys
host, port, command, client = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
addresses = socket.inet_pton(socket.AF_INET6, client) + socket.inet_pton(socket.AF_INET6, '2001:db8::99') + struct.pack('!HH', 4660, 25)
tlv = struct.pack('!BH', 4, 3) + b'abc'
body = addresses + tlv if command == 0x21 else b''
header = b'\\r\\n\\r\\n\\0\\r\\nQUIT\\n' + struct.pack('!BBH', command, 0x21 if command == 0x21 else 0, len(body)) + body
class Proxied(smtplib.SMTP):
    def _get_socket(self, host, port, timeout):
        link = super()._get_socket(host, port, timeout)
        link.sendall(header)
        return link
with Proxied(host, port, local_hostname='client.test') as smtp:
    smtp.ehlo()
    smtp.mail('a@client.test')
    print(*smtp.rcpt('u@far.test'))
";

#[test]
fn version_2_says_who_the_client_is() {
    let ironpost =
        Setup::new().proxied().set("", "trusted_networks", "[\"127.0.0.0/8\", \"2001:db8::/64\"]").start();
    let rcpt = |command: u8, client: &str| {
        let mut script = python();
        let smtp = ironpost.smtp();
        script.args(["-c", VERSION_2, &smtp.ip().to_string(), &smtp.port().to_string()]);
        run(script.args([&command.to_string(), client]), b"").ok().text()
    };
    assert_eq!(rcpt(0x21, "2001:db8::5").trim(), "250 b'2.1.5 Ok'", "trusted for its address");
    let refused = "554 b'5.7.1 <u@far.test>: Relay access denied'";
    assert_eq!(rcpt(0x21, "2001:db8:1::5").trim(), refused, "not for the proxy's");
    assert_eq!(rcpt(0x20, "::").trim(), refused, "LOCAL: nobody knows for whom");
    ironpost.log.wait_text("connect from unknown[2001:db8:1::5]");
}

#[test]
fn without_a_good_header_the_connection_is_closed_without_a_word() {
    let proxy = own_address();
    let networks = format!("[\"127.0.0.1\", \"{proxy}\"]");
    let ironpost = Setup::new()
        .proxied()
        .set("smtpd", "proxy_networks", &networks)
        .set("smtpd", "max_connections_per_client", "2")
        .start();
    let answer = |mut stream: TcpStream, bytes: &[u8]| {
        let _ = stream.write_all(bytes);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    };
    for bad in [
        b"EHLO client.test\r\nQUIT\r\n".as_slice(),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\nEHLO client.test\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 99999 25\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        // Nothing at all: closed when its time is up.
        b"",
    ] {
        assert_eq!(answer(connect_from(proxy, ironpost.smtp()), bad), "", "{}", bad.escape_ascii());
    }
    let stranger = connect_from(own_address(), ironpost.smtp());
    assert_eq!(answer(stranger, b"PROXY TCP4 127.0.0.1 127.0.0.1 1 25\r\nQUIT\r\n"), "");
    ironpost.log.wait("the reason", |line| line.contains("which is not in proxy_networks").then_some(()));
    // Limits are for the client, not for the proxy.
    let clients: Vec<_> =
        (0..6u8).map(|n| Client::connect_as(Ipv4Addr::new(192, 0, 2, 1 + n / 2), ironpost.smtp())).collect();
    assert!(clients.iter().all(|client| client.greeting.starts_with("220 ")));
    let third = Client::connect_as(Ipv4Addr::new(192, 0, 2, 1), ironpost.smtp());
    assert!(third.greeting.starts_with("421 4.7.0 "), "{}", third.greeting);
}

/// A proxy that says LOCAL or UNKNOWN speaks for nobody: its own address gives it no rights and no freedom from limits.
#[test]
fn who_is_not_named_has_a_strangers_limits() {
    let ironpost = Setup::new().proxied().set("smtpd", "max_connections_per_client", "2").start();
    let unnamed = || {
        let mut stream = connect_from(Ipv4Addr::LOCALHOST, ironpost.smtp());
        stream.write_all(b"PROXY UNKNOWN\r\n").unwrap();
        let mut first = [0; 4];
        stream.read_exact(&mut first).unwrap();
        (stream, first)
    };
    let taken = [unnamed(), unnamed()];
    assert!(taken.iter().all(|(_, first)| first == b"220 "));
    assert_eq!(&unnamed().1, b"421 ");
}

/// As with PROXY: a host that speaks for others has no limits of its own, and those that it names have theirs.
#[test]
fn limits_are_for_the_client_that_xclient_names() {
    let proxy = own_address();
    let ironpost = Setup::new()
        .set("smtpd", "xclient_networks", &format!("[\"{proxy}\"]"))
        .set("smtpd", "max_connections_per_client", "2")
        .text("smtpd", "client_connection_rate", "3/h")
        .start();
    let mut sessions: Vec<Client> = (0..6).map(|_| Client::connect_from(proxy, ironpost.smtp())).collect();
    let names = |session: &mut Client, client: &str| {
        session.hello();
        session.command(&format!("XCLIENT ADDR={client}"))
    };
    let busy =
        |client: &str| format!("421 4.7.0 mail.example.test Error: too many connections from {client}");
    let (same, other) = sessions.split_at_mut(4);
    assert!(names(&mut same[0], "192.0.2.1").starts_with("220 "));
    assert!(names(&mut same[1], "192.0.2.1").starts_with("220 "));
    assert_eq!(names(&mut same[2], "192.0.2.1"), busy("192.0.2.1"));
    assert!(names(&mut other[0], "192.0.2.2").starts_with("220 "));
    // Its place is free for another when the proxy speaks for somebody else; its rate is used up.
    assert!(names(&mut same[1], "192.0.2.3").starts_with("220 "));
    assert!(names(&mut same[3], "192.0.2.1").starts_with("220 "));
    assert!(names(&mut same[0], "192.0.2.4").starts_with("220 "));
    assert_eq!(names(&mut other[1], "192.0.2.1"), busy("192.0.2.1"));
}
