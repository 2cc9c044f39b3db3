//! Where configuration sends mail: relay_host, the transport table, relay_domains.

use std::net::Ipv4Addr;

use ironpost_tests::corpus::short;
use ironpost_tests::counterpart::dns::Zone;
use ironpost_tests::counterpart::script::{Script, Server};
use ironpost_tests::net::free_port;
use ironpost_tests::setup::Setup;

#[test]
fn relay_host_gets_what_is_not_local() {
    let server = Server::start(Script::new());
    let ironpost = Setup::new().relay_to(server.address()).start();
    let id = ironpost.send("alice@example.test", &["u@a.test", "v@b.test", "bob@example.test"], &short("x"));
    ironpost.wait_removed(&id);
    let recipients: Vec<_> = server.taken().into_iter().flat_map(|taken| taken.recipients).collect();
    assert_eq!(recipients.len(), 2, "{recipients:?}");
    assert!(server.taken().iter().all(|taken| taken.mail.starts_with("<alice@example.test>")));
    assert_eq!(ironpost.mail("bob").len(), 1);
}

#[test]
fn relay_host_by_name_is_looked_up() {
    let server = Server::start(Script::new());
    let dns = Zone::new().mx("net.test", 10, "mx.net.test").host("mx.net.test", Ipv4Addr::LOCALHOST).serve();
    for relay_host in [format!("net.test:{}", server.port()), format!("[mx.net.test]:{}", server.port())] {
        let ironpost = Setup::new()
            .dns(dns.address(), free_port(Ipv4Addr::LOCALHOST))
            .text("deliverd", "relay_host", &relay_host)
            .start();
        let id = ironpost.send("alice@example.test", &["u@a.test"], &short("x"));
        ironpost.wait_removed(&id);
        let line = ironpost.log.wait_text("status=sent");
        assert!(line.contains("relay=mx.net.test[127.0.0.1]:"), "{line}");
    }
    assert_eq!(server.taken().len(), 2);
}

#[test]
fn transport_table_decides() {
    let (one, two, rest) =
        (Server::start(Script::new()), Server::start(Script::new()), Server::start(Script::new()));
    let table = format!(
        "# comment\none.test smtp:[127.0.0.1]:{}\n.one.test smtp:[127.0.0.1]:{}\nspecial@one.test smtp:[127.0.0.1]:{}\n\
         gone.test error:moved to the moon\nvoid.test discard:\n",
        one.port(),
        two.port(),
        two.port()
    );
    let ironpost = Setup::new()
        .file("transport", &table)
        .text("deliverd", "transport", "transport")
        .relay_to(rest.address())
        .start();
    let to =
        ["u@one.test", "u@sub.one.test", "special@one.test", "u@gone.test", "u@void.test", "u@other.test"];
    let id = ironpost.send("alice@example.test", &to, &short("x"));
    ironpost.wait_removed(&id);
    let recipients = |server: &Server| {
        let mut found: Vec<_> = server.taken().into_iter().flat_map(|taken| taken.recipients).collect();
        found.sort();
        found
    };
    assert_eq!(recipients(&one), ["u@one.test"]);
    assert_eq!(recipients(&two), ["special@one.test", "u@sub.one.test"]);
    assert_eq!(recipients(&rest), ["u@other.test"]);
    let mails = ironpost.wait_mail("alice", 1);
    assert_eq!(mails.len(), 1);
    let report = crate::report::parse(&mails[0].bytes);
    assert_eq!(report["recipients"].as_array().unwrap().len(), 1);
    assert!(report["text"].as_str().unwrap().contains("moved to the moon"), "{report:#}");
}

#[test]
fn changed_table_is_read_anew() {
    let (one, two) = (Server::start(Script::new()), Server::start(Script::new()));
    let table = |server: &Server| format!("a.test smtp:[127.0.0.1]:{}\n", server.port());
    let mut ironpost =
        Setup::new().file("transport", &table(&one)).text("deliverd", "transport", "transport").start();
    ironpost.send("alice@example.test", &["u@a.test"], &short("x"));
    one.wait(1);
    std::fs::write(ironpost.path().join("transport"), table(&two)).unwrap();
    ironpost.signal(nix::sys::signal::Signal::SIGHUP);
    // The reload is not awaited: mail sent until it has happened goes the old way.
    ironpost.log.wait_until("mail on the new way", || {
        let id = ironpost.send("alice@example.test", &["u@a.test"], &short("x"));
        ironpost.wait_removed(&id);
        (!two.taken().is_empty()).then_some(())
    });
}

#[test]
fn relay_domains_are_taken_from_anyone() {
    let server = Server::start(Script::new());
    let ironpost = Setup::new()
        .set("", "relay_domains", "[\"ours.test\"]")
        .set("", "trusted_networks", "[\"192.0.2.0/24\"]")
        .relay_to(server.address())
        .start();
    let mut client = ironpost.connect();
    client.hello();
    client.expect("MAIL FROM:<a@client.test>", "250");
    client.expect("RCPT TO:<u@other.test>", "554 5.7.1 <u@other.test>: Relay access denied");
    client.expect("RCPT TO:<u@OURS.test>", "250 2.1.5 Ok");
    client.expect("RCPT TO:<nobody-here@example.test>", "550 5.1.1 ");
    client.expect("DATA", "354");
    ironpost_tests::client::queue_id(&client.content(&short("x")));
    assert_eq!(server.wait(1)[0].recipients.len(), 1);
}

#[test]
fn domains_compare_without_case_and_local_parts_arrive_as_sent() {
    let server = Server::start(Script::new());
    let ironpost = Setup::new().relay_to(server.address()).start();
    let id = ironpost.send("A.Sender@Client.Test", &["MiXeD@Remote.Test", "ALICE@EXAMPLE.Test"], &short("x"));
    ironpost.wait_removed(&id);
    let taken = server.taken();
    assert_eq!(taken[0].recipients[0].split('@').next(), Some("MiXeD"));
    assert!(taken[0].mail.starts_with("<A.Sender@"), "{}", taken[0].mail);
    assert_eq!(ironpost.mail("alice").len(), 1);
}

#[test]
fn null_sender_and_odd_addresses_are_relayed_as_they_are() {
    let server = Server::start(Script::new());
    let ironpost = Setup::new().relay_to(server.address()).start();
    let odd = [
        "\"a b\"@remote.test",
        "a+b=c@remote.test",
        "\"a\\\"b\"@remote.test",
        "o'brien@remote.test",
        "%x@remote.test",
    ];
    for address in odd {
        let id = ironpost.send("", &[address], &short("x"));
        ironpost.wait_removed(&id);
    }
    let taken = server.taken();
    let found: Vec<_> = taken.iter().map(|taken| taken.recipients[0].as_str()).collect();
    assert_eq!(found, odd);
    assert!(taken.iter().all(|taken| taken.mail.starts_with("<>")));
}
