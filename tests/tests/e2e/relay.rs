//! Where mail for other hosts goes: MX records from a real DNS server, and what to do when hosts or DNS fail.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ironpost_tests::corpus::short;
use ironpost_tests::counterpart::deaf::Deaf;
use ironpost_tests::counterpart::dns::{Dnsmasq, Zone};
use ironpost_tests::counterpart::script::{Act, Script, Server};
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::net::{free_port, has_ipv6, own_address};
use ironpost_tests::setup::Setup;
use ironpost_tests::skipped;

use crate::report::assert_failed;

/// Starts scripted servers that share a port, each on an address of its own.
fn hosts(scripts: Vec<Script>) -> Vec<Server> {
    let mut servers: Vec<Server> = Vec::new();
    for script in scripts {
        let port = servers.first().map_or(0, Server::port);
        servers.push(Server::start_at(own_address(), port, script));
    }
    servers
}

fn ironpost_with(dns: &Dnsmasq, port: u16) -> Ironpost {
    Setup::new().dns(dns.address(), port).quick_retries().start()
}

fn address(server: &Server) -> std::net::IpAddr {
    server.address().ip()
}

#[test]
fn lowest_preference_gets_all() {
    let hosts = hosts(vec![Script::new(), Script::new()]);
    let dns = Zone::new()
        .mx("relay.test", 20, "second.test")
        .mx("relay.test", 10, "first.test")
        .host("first.test", address(&hosts[0]))
        .host("second.test", address(&hosts[1]))
        .serve();
    let ironpost = ironpost_with(&dns, hosts[0].port());
    for _ in 0..5 {
        ironpost.send("alice@example.test", &["u@relay.test"], &short("x"));
    }
    hosts[0].wait(5);
    ironpost.wait_empty();
    assert_eq!(hosts[1].connections(), 0);
    let relay = format!("relay=first.test[{}]:{}", address(&hosts[0]), hosts[0].port());
    let line = ironpost.log.wait_text(&relay);
    assert!(
        line.contains("status=sent") && line.contains("dsn=2.0.0") && line.contains("to=<u@relay.test>"),
        "{line}"
    );
}

#[test]
fn next_host_gets_it_when_one_is_down_and_one_refuses() {
    let hosts = hosts(vec![
        Script::new().on("CONNECT", Act::ReplyAndClose("554 5.3.2 no mail here")),
        Script::new().on("CONNECT", Act::ReplyAndClose("421 4.3.2 busy")),
        Script::new(),
    ]);
    let dns = Zone::new()
        .mx("relay.test", 5, "nowhere.test")
        .mx("relay.test", 10, "down.test")
        .mx("relay.test", 20, "refusing.test")
        .mx("relay.test", 30, "busy.test")
        .mx("relay.test", 40, "good.test")
        .host("down.test", own_address())
        .host("refusing.test", address(&hosts[0]))
        .host("busy.test", address(&hosts[1]))
        .host("good.test", address(&hosts[2]))
        .serve();
    let ironpost = ironpost_with(&dns, hosts[0].port());
    let id = ironpost.send("alice@example.test", &["u@relay.test"], &short("x"));
    ironpost.wait_removed(&id);
    assert_eq!(hosts[2].taken().len(), 1);
    assert_eq!(ironpost.log.count(|line| line.contains("status=deferred")), 0, "it should not have waited");
    assert!(ironpost.mail("alice").is_empty());
}

#[test]
fn equal_preference_uses_the_one_that_lives() {
    let hosts = hosts(vec![Script::new(), Script::new()]);
    let dns = Zone::new()
        .mx("relay.test", 10, "down.test")
        .mx("relay.test", 10, "up.test")
        .mx("relay.test", 20, "last.test")
        .host("down.test", own_address())
        .host("up.test", address(&hosts[0]))
        .host("last.test", address(&hosts[1]))
        .serve();
    let ironpost = ironpost_with(&dns, hosts[0].port());
    for _ in 0..10 {
        ironpost.send("alice@example.test", &["u@relay.test"], &short("x"));
    }
    hosts[0].wait(10);
    ironpost.wait_empty();
    assert_eq!(hosts[1].connections(), 0);
}

#[test]
fn slow_host_does_not_hold_up_an_equal_one() {
    // RFC 8305 5: the next address is tried while the first one still hesitates.
    let hosts = hosts(vec![Script::new()]);
    let (slow, other_slow) = (own_address(), own_address());
    let _deaf = [Deaf::start_at(slow, hosts[0].port()), Deaf::start_at(other_slow, hosts[0].port())];
    let dns = Zone::new()
        .mx("relay.test", 10, "slow.test")
        .mx("relay.test", 10, "fast.test")
        .host("slow.test", slow)
        .host("slow.test", other_slow)
        .host("fast.test", address(&hosts[0]))
        .serve();
    let ironpost = ironpost_with(&dns, hosts[0].port());
    let before = std::time::Instant::now();
    for _ in 0..8 {
        let id = ironpost.send("alice@example.test", &["u@relay.test"], &short("x"));
        ironpost.wait_removed(&id);
    }
    // A connection that is not answered takes half a minute at least to fail by itself.
    assert!(before.elapsed().as_secs() < 15, "eight messages took {:?}", before.elapsed());
    assert_eq!(hosts[0].taken().len(), 8);
    assert_eq!(ironpost.log.count(|line| line.contains("status=deferred")), 0);
}

#[test]
fn one_host_with_several_addresses_is_tried_at_each() {
    let hosts = hosts(vec![Script::new()]);
    let dns = Zone::new()
        .mx("relay.test", 10, "many.test")
        .host("many.test", own_address())
        .host("many.test", own_address())
        .host("many.test", address(&hosts[0]))
        .serve();
    let ironpost = ironpost_with(&dns, hosts[0].port());
    let id = ironpost.send("alice@example.test", &["u@relay.test"], &short("x"));
    ironpost.wait_removed(&id);
    assert_eq!(hosts[0].taken().len(), 1);
}

#[test]
fn address_record_serves_without_mx() {
    let hosts = hosts(vec![Script::new()]);
    let dns = Zone::new().host("plain.test", address(&hosts[0])).cname("alias.test", "plain.test").serve();
    let ironpost = ironpost_with(&dns, hosts[0].port());
    ironpost.send("alice@example.test", &["u@plain.test"], &short("x"));
    ironpost.send("alice@example.test", &["u@alias.test"], &short("x"));
    hosts[0].wait(2);
    ironpost.wait_empty();
}

#[test]
fn address_record_does_not_serve_beside_a_dead_mx() {
    let hosts = hosts(vec![Script::new()]);
    let dns = Zone::new()
        .mx("relay.test", 10, "down.test")
        .host("down.test", own_address())
        .host("relay.test", address(&hosts[0]))
        .serve();
    let ironpost = ironpost_with(&dns, hosts[0].port());
    let id = ironpost.send("alice@example.test", &["u@relay.test"], &short("x"));
    ironpost.log.wait(&id, |line| (line.contains(&id) && line.contains("status=deferred")).then_some(()));
    assert_eq!(hosts[0].connections(), 0);
}

#[test]
fn domain_literal_goes_to_the_address() {
    let server = Server::start_at(own_address(), 0, Script::new());
    let ironpost = Setup::new().set("deliverd", "smtp_port", &server.port().to_string()).start();
    let recipient = format!("u@[{}]", address(&server));
    let id = ironpost.send("alice@example.test", &[&recipient], &short("x"));
    ironpost.wait_removed(&id);
    assert_eq!(server.wait(1)[0].recipients, [recipient]);
}

#[test]
fn null_mx_bounces_at_once() {
    let dns = Zone::new().null_mx("null.test").host("null.test", own_address()).serve();
    let ironpost = ironpost_with(&dns, free_port(Ipv4Addr::LOCALHOST));
    ironpost.send("alice@example.test", &["u@null.test"], &short("x"));
    let mails = ironpost.wait_mail("alice", 1);
    assert_failed(&mails[0].bytes, &[("u@null.test", "5.1.10")]);
    ironpost.log.wait("the outcome", |line| {
        (line.contains("to=<u@null.test>") && line.contains("dsn=5.1.10") && line.contains("status=bounced"))
            .then_some(())
    });
    ironpost.wait_empty();
}

#[test]
fn unknown_domain_bounces_at_once() {
    let dns = Zone::new().serve();
    let ironpost = ironpost_with(&dns, free_port(Ipv4Addr::LOCALHOST));
    ironpost.send("alice@example.test", &["u@nowhere.test"], &short("x"));
    let mails = ironpost.wait_mail("alice", 1);
    assert_failed(&mails[0].bytes, &[("u@nowhere.test", "5.1.2")]);
    ironpost.wait_empty();
}

#[test]
fn failing_dns_defers() {
    let dns = Zone::new()
        .servfail("broken.test")
        .silent("silent.test")
        .mx("half.test", 10, "mx.broken.test")
        .serve();
    let ironpost = ironpost_with(&dns, free_port(Ipv4Addr::LOCALHOST));
    let mut ids = Vec::new();
    for domain in ["broken.test", "silent.test", "half.test"] {
        ids.push(ironpost.send("alice@example.test", &[&format!("u@{domain}")], &short("x")));
    }
    for id in ids {
        let line = ironpost.log.wait("a deferral", |line| {
            (line.contains(&id) && line.contains("status=deferred")).then(|| line.to_owned())
        });
        assert!(line.contains("dsn=4."), "{line}");
    }
    assert!(ironpost.mail("alice").is_empty(), "failing DNS is no reason to bounce");
    // One listing may miss a message that goes back from deferred/ to active/ meanwhile.
    ironpost.log.wait_until("all three in the queue", || (ironpost.queue().len() == 3).then_some(()));
}

#[test]
fn without_any_name_server_mail_waits() {
    // Nothing listens at port 9 of this address.
    let nowhere = SocketAddr::from((own_address(), 9));
    let ironpost = Setup::new().dns(nowhere, 25).quick_retries().start();
    let id = ironpost.send("alice@example.test", &["u@relay.test"], &short("x"));
    ironpost.wait_deferred(&id);
    assert!(ironpost.mail("alice").is_empty());
}

#[test]
fn our_own_name_as_mx_is_a_loop() {
    let dns =
        Zone::new().mx("loop.test", 10, "mail.example.test").host("mail.example.test", own_address()).serve();
    let ironpost = ironpost_with(&dns, free_port(Ipv4Addr::LOCALHOST));
    ironpost.send("alice@example.test", &["u@loop.test"], &short("x"));
    let mails = ironpost.wait_mail("alice", 1);
    assert_failed(&mails[0].bytes, &[("u@loop.test", "5.4.6")]);
}

#[test]
fn our_own_address_and_port_is_a_loop() {
    let port = free_port(Ipv4Addr::LOCALHOST);
    let dns = Zone::new().mx("loop.test", 10, "other.test").host("other.test", Ipv4Addr::LOCALHOST).serve();
    let ironpost =
        Setup::new().dns(dns.address(), port).listen(&[&format!("127.0.0.1:{port}")]).quick_retries().start();
    ironpost.send("alice@example.test", &["u@loop.test"], &short("x"));
    let mails = ironpost.wait_mail("alice", 1);
    assert_failed(&mails[0].bytes, &[("u@loop.test", "5.4.6")]);
}

#[test]
fn backup_mx_relays_only_to_better_hosts() {
    // RFC 5321 5.1: hosts of our own preference and worse are not tried.
    let hosts = hosts(vec![Script::new()]);
    let dns = Zone::new()
        .mx("backed.test", 10, "down.test")
        .mx("backed.test", 20, "mail.example.test")
        .mx("backed.test", 30, "worse.test")
        .host("down.test", own_address())
        .host("mail.example.test", own_address())
        .host("worse.test", address(&hosts[0]))
        .serve();
    let ironpost = ironpost_with(&dns, hosts[0].port());
    let id = ironpost.send("alice@example.test", &["u@backed.test"], &short("x"));
    ironpost.wait_deferred(&id);
    assert_eq!(hosts[0].connections(), 0);
}

#[test]
fn ipv6_host_is_reached() {
    if !has_ipv6() {
        return skipped("ipv6_host_is_reached", "this machine has no IPv6 loopback");
    }
    let server = Server::start_at(Ipv6Addr::LOCALHOST, 0, Script::new());
    let dns = Zone::new().mx("six.test", 10, "v6.test").host("v6.test", Ipv6Addr::LOCALHOST).serve();
    let ironpost = Setup::new().dns(dns.address(), server.port()).listen(&["127.0.0.1:0", "[::1]:0"]).start();
    // In over IPv6 and out over IPv6.
    let listener = *ironpost.listeners().iter().find(|listener| listener.is_ipv6()).unwrap();
    let mut client = ironpost_tests::client::Client::connect(listener);
    client.hello();
    let id = client.send_mail("alice@example.test", &["u@six.test"], &short("x"));
    ironpost.wait_removed(&id);
    let taken = server.wait(1);
    assert!(String::from_utf8_lossy(&taken[0].content).contains("IPv6:::1"), "the client's address literal");
    let line = ironpost.log.wait_text("relay=v6.test[::1]:");
    assert!(line.contains("status=sent"), "{line}");
}
