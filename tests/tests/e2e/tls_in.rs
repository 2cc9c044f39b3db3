//! TLS towards clients: real clients over STARTTLS and implicit TLS, and the states that must not be.

use std::fs;
use std::io::{BufRead, Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use ironpost_tests::certificates::{Authority, Certificate, self_signed};
use ironpost_tests::clients::swaks;
use ironpost_tests::corpus::short;
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::process::{Output, run};
use ironpost_tests::setup::Setup;
use ironpost_tests::tools::python;
use nix::sys::signal::Signal;

const NAME: &str = "mail.example.test";

/// Listens with STARTTLS, then with implicit TLS, with a certificate that this authority has signed.
fn with_certificate(authority: &Authority) -> Setup {
    let setup = Setup::new()
        .listen_tls(&["starttls", "implicit"])
        .file("ca.pem", &authority.pem())
        .text("smtpd.tls", "certificate", "cert.pem")
        .text("smtpd.tls", "private_key", "key.pem");
    // Readable by root alone when root starts it: it is opened before that right is given up.
    authority.issue(&[NAME]).write(setup.path());
    setup
}

/// `openssl s_client`, whose input ends at once.
fn s_client(server: SocketAddr, implicit: bool, more: &[&str]) -> Output {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &server.to_string(), "-servername", NAME]);
    if !implicit {
        command.args(["-starttls", "smtp", "-name", "client.test"]);
    }
    run(command.args(more), b"QUIT\r\n")
}

/// The certificate that is shown, as PEM.
fn shown(server: SocketAddr) -> String {
    let text = s_client(server, false, &["-showcerts"]).text();
    let start = text.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("no certificate: {text}"));
    let end = text.find("-----END CERTIFICATE-----").unwrap();
    text[start..end].replace('\n', "")
}

fn body_of(certificate: &Certificate) -> String {
    let end = certificate.pem.find("-----END CERTIFICATE-----").unwrap();
    certificate.pem[..end].replace(['\r', '\n'], "")
}

/// Sends with Python's smtplib, which believes only this authority and looks at the name.
fn smtplib(server: SocketAddr, implicit: bool, ca: &str) -> Output {
    const SCRIPT: &str = "
import smtplib, ssl, sys
port, implicit, ca, name = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
class ByName(smtplib.SMTP_SSL if implicit == 'yes' else smtplib.SMTP):
    def _get_socket(self, host, port, timeout):
        return super()._get_socket('127.0.0.1', port, timeout)
more = {'context': context} if implicit == 'yes' else {}
smtp = ByName(name, int(port), local_hostname='client.test', **more)
if implicit != 'yes':
    smtp.ehlo()
    assert smtp.has_extn('starttls')
    smtp.starttls(context=context)
smtp.ehlo()
assert not smtp.has_extn('starttls')
smtp.sendmail('a@remote.test', ['alice@example.test'], 'Subject: python\\r\\n\\r\\nx\\r\\n')
print(smtp.sock.version())
smtp.quit()
";
    let implicit = if implicit { "yes" } else { "no" };
    let mut command = python();
    command.args(["-c", SCRIPT, &server.port().to_string(), implicit, ca, NAME]);
    run(&mut command, b"")
}

fn curl(server: SocketAddr, implicit: bool, ca: &str) -> Output {
    let scheme = if implicit { "smtps" } else { "smtp" };
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--ssl-reqd", "--cacert", ca])
        .args(["--connect-to", &format!("{NAME}:{}:127.0.0.1:{}", server.port(), server.port())])
        .args(["--url", &format!("{scheme}://{NAME}:{}/client.test", server.port())])
        .args(["--mail-from", "a@remote.test", "--mail-rcpt", "alice@example.test", "--upload-file", "-"]);
    run(&mut command, &short("curl"))
}

#[test]
fn real_clients_send_over_starttls_and_implicit_tls() {
    let ironpost = with_certificate(&Authority::new("test")).start();
    let ca = ironpost.path().join("ca.pem").display().to_string();
    let [starttls, implicit] = ironpost.listeners() else { panic!("two listeners") };
    for (server, is_implicit, option) in [(*starttls, false, "--tls"), (*implicit, true, "--tls-on-connect")]
    {
        smtplib(server, is_implicit, &ca).ok();
        curl(server, is_implicit, &ca).ok();
        let more = [option, "--tls-ca-path", &ca, "--tls-verify"];
        let message = "Subject: swaks\n\nx\n";
        swaks(server, "a@remote.test", &["alice@example.test"], message, &more).ok();
        for version in ["-tls1_2", "-tls1_3"] {
            let said =
                s_client(server, is_implicit, &["-CAfile", &ca, "-verify_return_error", "-brief", version]);
            assert!(said.err.contains("Verification: OK"), "{}", said.err);
        }
        let old = s_client(server, is_implicit, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(old.text().contains("Cipher is (NONE)"), "TLS 1.1 is not spoken: {}", old.text());
    }
    for mail in ironpost.wait_mail("alice", 6) {
        let received = mail.header("Received").unwrap();
        assert!(
            received.contains("(using TLSv1.3 with cipher TLS_AES_") && received.contains("ESMTPS id"),
            "{received}"
        );
        assert!(received.contains("key-exchange X25519"), "{received}");
    }
    ironpost
        .log
        .wait_text("Anonymous TLS connection established from localhost[127.0.0.1]: TLSv1.2 with cipher");
}

#[test]
fn what_is_said_before_the_handshake_does_not_count() {
    let ironpost = Setup::new().start();
    // In one packet with STARTTLS (CVE-2011-0411).
    let mut client = ironpost.connect();
    client.hello();
    client.send(b"STARTTLS\r\nMAIL FROM:<evil@remote.test>\r\n");
    assert_eq!(client.reply(), "554 5.5.0 Error: SMTP protocol synchronization");
    client.expect_closed();
    // After the reply, in plain text: it is no handshake, and not answered.
    let mut client = ironpost.connect();
    client.hello();
    client.expect("STARTTLS", "220 2.0.0 Ready to start TLS");
    client.send(b"MAIL FROM:<evil@remote.test>\r\n");
    ironpost.log.wait_text("SSL_accept error from localhost[127.0.0.1]: ");
    ironpost.log.wait_text("lost connection after STARTTLS from localhost[127.0.0.1]");
    // A name and a sender from before are gone, and STARTTLS is not offered twice.
    const SCRIPT: &str = "
import smtplib, ssl, sys
smtp = smtplib.SMTP('127.0.0.1', int(sys.argv[1]), local_hostname='client.test')
smtp.ehlo()
assert smtp.docmd('MAIL FROM:<a@remote.test>')[0] == 250
assert smtp.docmd('STARTTLS')[0] == 220
context = ssl._create_unverified_context()
smtp.sock = context.wrap_socket(smtp.sock)
smtp.file = None
print(smtp.docmd('RCPT TO:<alice@example.test>'), smtp.docmd('MAIL FROM:<a@remote.test>'))
smtp.ehlo()
assert not smtp.has_extn('starttls')
print(smtp.docmd('STARTTLS'))
smtp.quit()
";
    let mut command = python();
    command.args(["-c", SCRIPT, &ironpost.smtp().port().to_string()]);
    let said = run(&mut command, b"").ok().text();
    for reply in [
        "503, b'5.5.1 Error: need MAIL command",
        "503, b'5.5.1 Error: send HELO/EHLO first",
        "554, b'5.5.1 Error: TLS already active",
    ] {
        assert!(said.contains(reply), "{reply}: {said}");
    }
}

#[test]
fn sessions_are_resumed_at_their_own_listener_only() {
    let ironpost = Setup::new().listen_tls(&["implicit", "implicit"]).start();
    let [first, second] = ironpost.listeners() else { panic!("two listeners") };
    let session = ironpost.path().join("session").display().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        // Tickets of TLS 1.3 come after the handshake, and before the server's end, which is waited for.
        let talk = |server: &SocketAddr, option: &str| {
            let mut command = Command::new("openssl");
            command.args([
                "s_client",
                "-ign_eof",
                "-connect",
                &server.to_string(),
                version,
                option,
                &session,
            ]);
            run(&mut command, b"QUIT\r\n").text()
        };
        assert!(talk(first, "-sess_out").contains("New, TLS"), "{version}");
        assert!(talk(first, "-sess_in").contains("Reused, TLS"), "{version}: at its own listener");
        assert!(talk(second, "-sess_in").contains("New, TLS"), "{version}: at another one");
    }
    ironpost.log.wait_for("a session that was resumed", |lines| {
        lines
            .iter()
            .any(|line| line.contains("TLS connection established") && line.ends_with(", resumed"))
            .then_some(())
    });
}

#[test]
fn a_renewed_certificate_is_used_and_a_wrong_one_is_not() {
    let authority = Authority::new("test");
    let mut ironpost = with_certificate(&authority).start();
    let first = shown(ironpost.smtp());
    let mut client = ironpost.connect();
    client.hello();
    let renewed = authority.issue(&[NAME]);
    let folder = ironpost.path().to_owned();
    // Tests that run as root write files that smtpd's own user has to read by now.
    let write = |certificate: &Certificate| {
        let (_, key) = certificate.write(&folder);
        fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    };
    write(&renewed);
    let wanted = body_of(&renewed);
    assert_ne!(first, wanted);
    ironpost.log.wait_until("the renewed certificate", || (shown(ironpost.smtp()) == wanted).then_some(()));
    client.expect("NOOP", "250 2.0.0 Ok");
    // One that does not fit its key changes nothing, and the log says which file.
    fs::write(folder.join("key.pem"), authority.issue(&[NAME]).key).unwrap();
    ironpost.signal(Signal::SIGHUP);
    ironpost.log.wait_text("certificate not read anew, the old one stays in force");
    ironpost.log.wait_text("key.pem: does not belong to the certificate in ");
    assert_eq!(shown(ironpost.smtp()), wanted);
    client.quit();
}

#[test]
fn an_encrypted_session_goes_on_with_the_certificate_that_it_began_with() {
    const SCRIPT: &str = "
import smtplib, ssl, sys
context = ssl._create_unverified_context()
smtp = smtplib.SMTP('127.0.0.1', int(sys.argv[1]), local_hostname='client.test')
smtp.starttls(context=context)
smtp.ehlo()
shown = smtp.sock.getpeercert(True)
print('ready', flush=True)
assert sys.stdin.readline() == 'renewed\\n'
smtp.sendmail('a@remote.test', ['alice@example.test'], 'Subject: x\\r\\n\\r\\nx\\r\\n')
assert smtp.sock.getpeercert(True) == shown
smtp.quit()
other = smtplib.SMTP('127.0.0.1', int(sys.argv[1]), local_hostname='client.test')
other.starttls(context=context)
assert other.sock.getpeercert(True) != shown
other.quit()
";
    let authority = Authority::new("test");
    let ironpost = with_certificate(&authority).start();
    let mut command = python();
    command.args(["-c", SCRIPT, &ironpost.smtp().port().to_string()]);
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut words = String::new();
    std::io::BufReader::new(client.stdout.take().unwrap()).read_line(&mut words).unwrap();
    assert_eq!(words, "ready\n");
    authority.issue(&[NAME]).write(ironpost.path());
    ironpost.ironpost(&["reload", "smtpd"]).ok();
    client.stdin.take().unwrap().write_all(b"renewed\n").unwrap();
    assert!(client.wait().unwrap().success());
    ironpost.wait_mail("alice", 1);
}

#[test]
fn plain_text_where_tls_comes_first_is_no_handshake() {
    let ironpost = Setup::new().listen_tls(&["implicit"]).start();
    let mut client = std::net::TcpStream::connect(ironpost.smtp()).unwrap();
    client.write_all(b"EHLO client.test\r\nMAIL FROM:<a@remote.test>\r\n").unwrap();
    let mut said = Vec::new();
    // An alert at most (RFC 8446 6.2), and the end.
    let _ = client.read_to_end(&mut said);
    assert!(said.is_empty() || said.first() == Some(&21), "{said:?}");
    ironpost.log.wait_text("SSL_accept error from localhost[127.0.0.1]: ");
    // And TLS where plain text comes first.
    let mut command = Command::new("openssl");
    let plain = Setup::new().start();
    let said = run(command.args(["s_client", "-connect", &plain.smtp().to_string()]), b"");
    assert!(said.text().contains("Cipher is (NONE)"), "{}", said.text());
    let id = plain.send("a@remote.test", &["alice@example.test"], &short("as before"));
    plain.wait_removed(&id);
}

#[test]
fn a_certificate_that_cannot_be_used_is_said_at_the_start() {
    let authority = Authority::new("test");
    let other = self_signed(&[NAME]);
    for (what, says) in [
        ("mismatch", "key.pem: does not belong to"),
        ("gone", "cert.pem: cannot read"),
        ("empty", "key.pem: has no private key"),
    ] {
        let setup = with_certificate(&authority);
        match what {
            "mismatch" => fs::write(setup.path().join("key.pem"), &other.key).unwrap(),
            "gone" => fs::remove_file(setup.path().join("cert.pem")).unwrap(),
            _ => fs::write(setup.path().join("key.pem"), "").unwrap(),
        }
        let ironpost = setup.stopped();
        for output in [
            ironpost.ironpost(&["check"]),
            run(&mut ironpost.command("smtpd", &["-c", &ironpost.config().display().to_string()]), b""),
        ] {
            assert_eq!(output.code, 78, "{what}: {}", output.err);
            assert!(output.err.contains(says), "{what}: {}", output.err);
        }
    }
    let setup = with_certificate(&authority);
    authority.issue_expired(&[NAME]).write(setup.path());
    let ironpost = setup.stopped();
    let output = ironpost.ironpost(&["check"]);
    assert_eq!(output.code, 78);
    assert!(output.err.contains("cert.pem: the certificate expired on "), "{}", output.err);
}

#[test]
fn without_a_certificate_one_is_made_and_kept() {
    let mut ironpost = Setup::new().start();
    let first = shown(ironpost.smtp());
    ironpost.restart();
    assert_eq!(shown(ironpost.smtp()), first);
    let subject = s_client(ironpost.smtp(), false, &["-brief"]).err;
    assert!(subject.contains(NAME), "{subject}");
}

#[test]
fn other_protocols_and_hanging_handshakes_are_refused() {
    let ironpost =
        Setup::new().listen_tls(&["starttls", "implicit"]).text("smtpd", "idle_timeout", "2s").start();
    let implicit = ironpost.listeners()[1];
    let refused = s_client(implicit, true, &["-alpn", "h2,http/1.1"]);
    assert!(refused.err.contains("no application protocol"), "{}", refused.err);
    let taken = s_client(implicit, true, &["-alpn", "smtp"]);
    assert!(taken.text().contains("ALPN protocol: smtp"), "{}", taken.text());
    // A client that says STARTTLS, or connects, and then nothing.
    let mut silent = ironpost.connect();
    silent.hello();
    silent.expect("STARTTLS", "220");
    let mut at_once = std::net::TcpStream::connect(implicit).unwrap();
    silent.expect_closed();
    assert_eq!(std::io::Read::read(&mut at_once, &mut [0; 100]).unwrap_or(0), 0);
    ironpost.log.wait_count(2, "handshakes that timed out", |line| {
        line.ends_with("SSL_accept error from localhost[127.0.0.1]: timed out")
    });
    sends_as_before(&ironpost);
}

/// It came in plain text, where the client waited for a handshake.
#[test]
fn who_is_turned_away_before_a_handshake_is_told_nothing() {
    let ironpost = Setup::new()
        .listen_tls(&["starttls", "implicit"])
        .set("", "trusted_networks", "[]")
        .set("smtpd", "max_connections_per_client", "1")
        .start();
    let _first = ironpost.connect();
    for (listener, said) in ironpost.listeners().iter().zip(["421", ""]) {
        let mut second = std::net::TcpStream::connect(listener).unwrap();
        second.set_read_timeout(Some(*ironpost_tests::DEADLINE)).unwrap();
        let mut all = Vec::new();
        second.read_to_end(&mut all).unwrap();
        assert_eq!(String::from_utf8_lossy(&all).get(..3).unwrap_or(""), said);
    }
    ironpost.log.wait_count(2, "why", |line| line.contains("too many connections from 127.0.0.1"));
}

fn sends_as_before(ironpost: &Ironpost) {
    let id = ironpost.send("a@remote.test", &["alice@example.test"], &short("as before"));
    ironpost.wait_removed(&id);
}
