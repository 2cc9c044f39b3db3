//! Among equally preferred hosts the quickest gets the mail, message after message.

use std::time::Duration;

use ironpost_tests::corpus::short;
use ironpost_tests::counterpart::dns::Zone;
use ironpost_tests::counterpart::script::{Act, Script, Server};
use ironpost_tests::net::own_address;
use ironpost_tests::setup::Setup;

#[test]
fn quicker_one_of_two_equal_hosts_gets_nearly_all() {
    const MESSAGES: usize = 200;
    // Each message has a connection of its own, so that the host is chosen anew.
    let alone = || Script::new().on(".", Act::ReplyAndClose("250 2.0.0 ok: taken"));
    let slow =
        Server::start_at(own_address(), 0, alone().on("CONNECT", Act::Late(Duration::from_millis(80))));
    let quick = Server::start_at(own_address(), slow.port(), alone());
    let dns = Zone::new()
        .mx("relay.test", 10, "slow.test")
        .mx("relay.test", 10, "quick.test")
        .host("slow.test", slow.address().ip())
        .host("quick.test", quick.address().ip())
        .serve();
    let ironpost = Setup::new().dns(dns.address(), slow.port()).quick_retries().start();
    let send = |count: usize| {
        let mut client = ironpost.connect();
        client.hello();
        for _ in 0..count {
            // One after the other: what the last one measured counts for the next one.
            let id = client.send_mail("alice@example.test", &["u@relay.test"], &short("x"));
            ironpost.wait_removed(&id);
        }
        client.quit();
    };
    // Both are unknown at first, and get measured.
    send(2);
    assert_eq!((slow.count(), quick.count()), (1, 1), "who is unknown goes first");
    send(MESSAGES);
    ironpost.wait_empty();
    let (slow, quick) = (slow.count() - 1, quick.count() - 1);
    println!("latency: {quick} of {MESSAGES} messages for the quick host, {slow} for the slow one");
    assert_eq!(slow + quick, MESSAGES);
    assert!(quick * 10 > MESSAGES * 8, "{quick} of {MESSAGES} for the quick host");
    // One in twenty in the mean: that none in two hundred is one has a chance of 1 in 28,000.
    assert!(slow > 0, "nobody looks any more whether the slow one became quick");
}
