//! Restrictions: with a real name server, real tables, clients from addresses of their own.

use std::net::Ipv4Addr;
use std::time::Instant;

use ironpost_tests::client::{Client, queue_id};
use ironpost_tests::corpus::short;
use ironpost_tests::counterpart::dns::{Dnsmasq, Zone};
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::net::own_address;
use ironpost_tests::setup::Setup;

/// Strangers are all clients but 127.0.0.1.
fn setup(dns: &Dnsmasq) -> Setup {
    let servers = format!("[\"{}\"]", dns.address());
    Setup::new().set("", "trusted_networks", "[\"127.0.0.1\"]").set("smtpd", "nameservers", &servers)
}

fn connect(ironpost: &Ironpost, source: Ipv4Addr) -> Client {
    if source.is_loopback() {
        Client::connect_from(source, ironpost.smtp())
    } else {
        Client::connect_as(source, ironpost.smtp())
    }
}

/// What RCPT is answered in a session of its own. An address in 192.0.2.0/24 is one that a proxy tells.
fn rcpt(ironpost: &Ironpost, source: Ipv4Addr, hello: &str, sender: &str, recipient: &str) -> String {
    let mut client = connect(ironpost, source);
    client.expect(&format!("EHLO {hello}"), "250");
    client.expect(&format!("MAIL FROM:<{sender}>"), "250");
    let reply = client.command(&format!("RCPT TO:<{recipient}>"));
    client.quit();
    reply
}

#[test]
fn names_and_domains_are_looked_up() {
    let [good, forged, unnamed, trusted] = [1, 2, 3, 4].map(|n| Ipv4Addr::new(192, 0, 2, n));
    let dns = Zone::new()
        .host("mail.client.test", good)
        .pointer(forged, "mail.client.test")
        .mx("mx.test", 10, "mail.client.test")
        .null_mx("null.test")
        .servfail("fails.test")
        .serve();
    let ironpost = setup(&dns)
        .proxied()
        .set("", "trusted_networks", "[\"127.0.0.1\", \"192.0.2.4\"]")
        .set("smtpd.restrictions", "connect", "[\"permit_mynetworks\", \"reject_unknown_client_hostname\"]")
        .set(
            "smtpd.restrictions",
            "helo",
            "[\"reject_non_fqdn_helo_hostname\", \"reject_unknown_helo_hostname\"]",
        )
        .set("smtpd.restrictions", "mail", "[\"reject_non_fqdn_sender\", \"reject_unknown_sender_domain\"]")
        .set("smtpd.restrictions", "rcpt", "[\"warn:reject_non_fqdn_recipient\", \"warn:reject\"]")
        .start();
    for (source, hello, sender, expected) in [
        (good, "mail.client.test", "a@mx.test", "250 2.1.5 Ok"),
        (good, "mail.client.test", "a@mail.client.test", "250 2.1.5 Ok"),
        (good, "mail.client.test", "", "250 2.1.5 Ok"),
        (good, "mail.client.test", "a@example.test", "250 2.1.5 Ok"),
        (
            good,
            "mail.client.test",
            "a@null.test",
            "550 5.7.27 <a@null.test>: Sender address rejected: Domain null.test does not accept mail (nullMX)",
        ),
        (
            good,
            "mail.client.test",
            "a@none.test",
            "550 5.1.8 <a@none.test>: Sender address rejected: Domain not found",
        ),
        (
            good,
            "mail.client.test",
            "a@fails.test",
            "450 4.1.8 <a@fails.test>: Sender address rejected: Domain not found",
        ),
        (
            good,
            "mail.client.test",
            "a@localhost",
            "504 5.5.2 <a@localhost>: Sender address rejected: need fully-qualified address",
        ),
        (good, "none.test", "a@mx.test", "450 4.7.1 <none.test>: Helo command rejected: Host not found"),
        (
            good,
            "client",
            "a@mx.test",
            "504 5.5.2 <client>: Helo command rejected: need fully-qualified hostname",
        ),
        (
            forged,
            "mail.client.test",
            "a@mx.test",
            &format!("450 4.7.25 Client host rejected: cannot find your hostname, [{forged}]"),
        ),
        (
            unnamed,
            "mail.client.test",
            "a@mx.test",
            &format!("450 4.7.25 Client host rejected: cannot find your hostname, [{unnamed}]"),
        ),
        (trusted, "mail.client.test", "a@mx.test", "250 2.1.5 Ok"),
    ] {
        assert_eq!(
            rcpt(&ironpost, source, hello, sender, "alice@example.test"),
            expected,
            "{source} {hello} {sender}"
        );
    }
    // What was found is in the log and in the header.
    let mut client = connect(&ironpost, good);
    client.expect("EHLO mail.client.test", "250");
    let id = client.send_mail("a@mx.test", &["alice@example.test"], &short("x"));
    ironpost.log.wait_text(&format!("{id}: client=mail.client.test[{good}]"));
    ironpost.log.wait_text(&format!("NOQUEUE: reject: RCPT from unknown[{forged}]: 450 4.7.25"));
    let warned = format!(
        "NOQUEUE: reject_warning: RCPT from mail.client.test[{good}]: 554 5.7.1 <alice@example.test>: Recipient \
         address rejected: Access denied; from=<a@mx.test> to=<alice@example.test> helo=<mail.client.test>"
    );
    ironpost.log.wait_text(&warned);
    let mails = ironpost.wait_mail("alice", 1);
    let text = String::from_utf8_lossy(&mails[0].bytes).into_owned();
    assert!(text.contains(&format!("Received: from mail.client.test (mail.client.test [{good}])")), "{text}");
}

#[test]
fn each_stage_can_refuse_by_itself() {
    let bad = own_address();
    let dns = Zone::new().serve();
    let ironpost = setup(&dns)
        .file("clients", &format!("{bad} REJECT you again\n"))
        .file("later", &format!("{bad} 450 4.3.2 not today\n"))
        .set("smtpd.restrictions", "delay_reject", "false")
        .set("smtpd.restrictions", "connect", "[\"check_client_access:clients\"]")
        .set("smtpd.restrictions", "helo", "[\"reject_invalid_helo_hostname\"]")
        .set("smtpd.restrictions", "mail", "[\"reject_non_fqdn_sender\"]")
        .set(
            "smtpd.restrictions",
            "data",
            "[\"reject_multi_recipient_bounce\", \"check_client_access:later\"]",
        )
        .start();
    let mut client = Client::connect_from(bad, ironpost.smtp());
    assert_eq!(client.greeting, format!("521 5.7.1 <localhost[{bad}]>: Client host rejected: you again"));
    client.expect_closed();
    ironpost.log.wait_text(&format!("NOQUEUE: reject: CONNECT from localhost[{bad}]: 521 5.7.1"));
    let mut client = Client::connect_from(own_address(), ironpost.smtp());
    client.expect("EHLO -bad-", "501 5.5.2 <-bad->: Helo command rejected: Invalid name");
    client.expect("MAIL FROM:<a@client.test>", "503 5.5.1");
    client.expect("EHLO good.test", "250");
    client
        .expect("MAIL FROM:<a@b>", "504 5.5.2 <a@b>: Sender address rejected: need fully-qualified address");
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<alice@example.test>", "250");
    client.expect("RCPT TO:<bob@example.test>", "250");
    client.expect("DATA", "550 5.5.3 <DATA>: Data command rejected: Multi-recipient bounce");
    client.expect("RSET", "250");
    let id = client.send_mail("a@client.test", &["alice@example.test"], &short("x"));
    ironpost.wait_removed(&id);
    // A table is read anew: the client may come, and is refused at DATA.
    std::fs::write(ironpost.path().join("clients"), "192.0.2.1 REJECT\n").unwrap();
    let mut client = ironpost.log.wait_until("the new table", || {
        let client = Client::connect_from(bad, ironpost.smtp());
        client.greeting.starts_with("220 ").then_some(client)
    });
    client.hello();
    client.expect("MAIL FROM:<a@client.test>", "250");
    client.expect("RCPT TO:<alice@example.test>", "250");
    client.expect("DATA", &format!("450 4.3.2 <localhost[{bad}]>: Client host rejected: not today"));
}

#[test]
fn dns_lists_are_weighed_and_a_silent_one_decides_nothing() {
    let [clean, listed, allowed] = [own_address(), own_address(), own_address()];
    let dns = Zone::new()
        .listed("bl.test", listed, "127.0.0.2", "see http://bl.test/")
        .listed("bl.test", allowed, "127.0.0.2", "see http://bl.test/")
        .listed("wl.test", allowed, "127.0.5.2", "good")
        .silent("down.test")
        .serve();
    let ironpost = setup(&dns)
        .set(
            "smtpd.dnsbl",
            "sites",
            "[\"bl.test=127.0.0.[2..11]*2\", \"wl.test=127.0.[0..255].[1..3]*-1\", \"down.test*5\"]",
        )
        .set("smtpd.dnsbl", "threshold", "2")
        .set(
            "smtpd.restrictions",
            "rcpt",
            "[\"reject_dnsbl\", \"permit_dnswl_client:wl.test\", \"check_recipient_access:last\"]",
        )
        .file("last", "bob@example.test REJECT not for you\n")
        .start();
    let begun = Instant::now();
    let to_alice = |source| rcpt(&ironpost, source, "client.test", "a@client.test", "alice@example.test");
    assert_eq!(to_alice(clean), "250 2.1.5 Ok");
    assert!(begun.elapsed().as_secs() < 30, "a silent list held the client up for {:?}", begun.elapsed());
    let refused = format!(
        "554 5.7.1 Service unavailable; Client host [{listed}] blocked using bl.test; see http://bl.test/"
    );
    assert_eq!(to_alice(listed), refused);
    assert_eq!(to_alice(allowed), "250 2.1.5 Ok", "2 - 1 is below the threshold");
    let to_bob = |source| rcpt(&ironpost, source, "client.test", "a@client.test", "bob@example.test");
    assert_eq!(to_bob(clean), "554 5.7.1 <bob@example.test>: Recipient address rejected: not for you");
    assert_eq!(to_bob(allowed), "250 2.1.5 Ok", "an allow list ends the list");
}

/// Whatever the lists permit.
#[test]
fn nothing_makes_an_open_relay() {
    let dns = Zone::new().serve();
    let stranger = own_address();
    let ironpost = setup(&dns)
        .set("", "relay_domains", "[\"relay.test\"]")
        .file("all", "0.0.0.0/0 OK\nfar.test OK\na@client.test OK\n")
        .set("smtpd.restrictions", "connect", "[\"check_client_access:all\"]")
        .set("smtpd.restrictions", "mail", "[\"check_sender_access:all\", \"permit\"]")
        .set("smtpd.restrictions", "rcpt", "[\"check_recipient_access:all\", \"permit\"]")
        .start();
    for recipient in ["u@far.test", "u%far.test@relay.test", "far.test!u@relay.test"] {
        let reply = rcpt(&ironpost, stranger, "client.test", "a@client.test", recipient);
        assert_eq!(reply, format!("554 5.7.1 <{recipient}>: Relay access denied"));
    }
    let unknown = rcpt(&ironpost, stranger, "client.test", "a@client.test", "nobody@example.test");
    assert!(unknown.starts_with("550 5.1.1 <nobody@example.test>"), "{unknown}");
    let trusted = rcpt(&ironpost, Ipv4Addr::LOCALHOST, "client.test", "a@client.test", "u@far.test");
    assert_eq!(trusted, "250 2.1.5 Ok");
}

#[test]
fn who_comes_again_is_known_also_after_a_restart() {
    let dns = Zone::new().serve();
    let source = own_address();
    let mut ironpost = setup(&dns)
        .text("smtpd.greylist", "delay", "2s")
        .set(
            "smtpd.restrictions",
            "rcpt",
            "[\"permit_mynetworks\", \"reject_unlisted_recipient\", \"greylist\"]",
        )
        .start();
    let try_once = |ironpost: &Ironpost, sender: &str, recipient: &str| {
        rcpt(ironpost, source, "client.test", sender, recipient)
    };
    let first = try_once(&ironpost, "a@client.test", "alice@example.test");
    assert!(
        first.starts_with(
            "450 4.2.0 <alice@example.test>: Recipient address rejected: Greylisted, try again in"
        ),
        "{first}"
    );
    let unknown = try_once(&ironpost, "a@client.test", "nobody@example.test");
    assert!(unknown.starts_with("550 5.1.1"), "{unknown}");
    ironpost.log.wait_until("the end of the delay", || {
        try_once(&ironpost, "a@client.test", "alice@example.test").starts_with("250").then_some(())
    });
    ironpost.restart();
    assert_eq!(try_once(&ironpost, "a@client.test", "alice@example.test"), "250 2.1.5 Ok");
    let other = try_once(&ironpost, "b@client.test", "alice@example.test");
    assert!(other.starts_with("450 4.2.0"), "{other}");
    let trusted = rcpt(&ironpost, Ipv4Addr::LOCALHOST, "client.test", "c@client.test", "alice@example.test");
    assert_eq!(trusted, "250 2.1.5 Ok");
}

#[test]
fn clients_have_rates_that_trusted_ones_do_not() {
    let dns = Zone::new().serve();
    let ironpost = setup(&dns)
        .text("smtpd", "client_connection_rate", "3/h")
        .text("smtpd", "client_message_rate", "2/h")
        .text("smtpd", "client_recipient_rate", "3/h")
        .start();
    let source = own_address();
    let mut client = Client::connect_from(source, ironpost.smtp());
    client.hello();
    client.expect("MAIL FROM:<a@client.test>", "250");
    for _ in 0..3 {
        client.expect("RCPT TO:<alice@example.test>", "250");
    }
    client.expect(
        "RCPT TO:<alice@example.test>",
        &format!("450 4.7.1 Error: too many recipients from {source}"),
    );
    queue_id(&{
        client.expect("DATA", "354");
        client.content(&short("x"))
    });
    client.expect("MAIL FROM:<a@client.test>", "250");
    client.expect("RSET", "250");
    client.expect("MAIL FROM:<a@client.test>", &format!("450 4.7.1 Error: too much mail from {source}"));
    for _ in 0..2 {
        assert!(Client::connect_from(source, ironpost.smtp()).greeting.starts_with("220 "));
    }
    let mut fourth = Client::connect_from(source, ironpost.smtp());
    let expected = format!("421 4.7.0 mail.example.test Error: too many connections from {source}");
    assert_eq!(fourth.greeting, expected);
    fourth.expect_closed();
    for _ in 0..5 {
        ironpost.send("a@client.test", &["alice@example.test"], &short("x"));
    }
}

#[test]
fn rates_can_be_tried_with_warnings_first() {
    let dns = Zone::new().serve();
    let ironpost = setup(&dns)
        .text("smtpd", "client_connection_rate", "warn:1/h")
        .text("smtpd", "client_message_rate", "warn:1/h")
        .text("smtpd", "client_recipient_rate", "warn:1/h")
        .start();
    let source = own_address();
    let mut client = Client::connect_from(source, ironpost.smtp());
    client.hello();
    for _ in 0..2 {
        client.expect("MAIL FROM:<a@client.test>", "250");
        client.expect("RCPT TO:<alice@example.test>", "250");
        client.expect("DATA", "354");
        queue_id(&client.content(&short("x")));
    }
    assert!(Client::connect_from(source, ironpost.smtp()).greeting.starts_with("220 "));
    for (stage, reply) in [
        (
            "CONNECT",
            format!("421 4.7.0 mail.example.test Error: too many connections from {source}; proto=SMTP"),
        ),
        ("MAIL", format!("450 4.7.1 Error: too much mail from {source}; from=<a@client.test>")),
        (
            "RCPT",
            format!(
                "450 4.7.1 Error: too many recipients from {source}; from=<a@client.test> to=<alice@example.test>"
            ),
        ),
    ] {
        let (warned, stage) = (format!("reject_warning: {stage} from "), format!("the warning at {stage}"));
        let is = |line: &str| line.contains(&warned) && line.contains(&reply);
        ironpost.log.wait_count(1, &stage, is);
        assert_eq!(ironpost.log.count(is), 1);
    }
}

#[test]
fn who_is_not_behind_us_is_refused_before_anything_is_accepted() {
    let dns = Zone::new().serve();
    let ironpost = setup(&dns)
        .set("", "relay_domains", "[\"relay.test\"]")
        .text("smtpd", "relay_recipients", "behind")
        .file("behind", "joe@relay.test OK\n")
        .start();
    let unknown = |who: &str| {
        format!("550 5.1.1 <{who}>: Recipient address rejected: User unknown in relay recipient table")
    };
    for source in [own_address(), Ipv4Addr::LOCALHOST] {
        let mut client = Client::connect_from(source, ironpost.smtp());
        client.hello();
        client.expect("MAIL FROM:<a@client.test>", "250");
        client.expect("RCPT TO:<nobody@relay.test>", &unknown("nobody@relay.test"));
        client.expect("RCPT TO:<Joe+lists@Relay.test>", "250");
        client.expect("RCPT TO:<postmaster>", "250");
    }
    // Read anew without a word from anybody.
    std::fs::write(ironpost.path().join("behind"), "@relay.test\n").unwrap();
    ironpost.log.wait_until("the table to be read", || {
        let reply = rcpt(&ironpost, Ipv4Addr::LOCALHOST, "client.test", "a@client.test", "nobody@relay.test");
        reply.starts_with("250").then_some(())
    });
}
