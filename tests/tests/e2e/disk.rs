//! A full disk: clients are told to come back, nothing is lost, and all goes on when there is room.

use ironpost_tests::corpus::plain;
use ironpost_tests::counterpart::script::{Script, Server};
use ironpost_tests::disk::SmallDisk;
use ironpost_tests::mailbox::assert_same;
use ironpost_tests::net::{free_port, own_address};
use ironpost_tests::setup::Setup;
use ironpost_tests::{is_root, skipped};

#[test]
fn full_disk_defers_clients_and_loses_nothing() {
    const TEST: &str = "full_disk_defers_clients_and_loses_nothing";
    if !is_root() {
        return skipped(TEST, "only root may mount a small disk");
    }
    let address = own_address();
    let port = free_port(address);
    let setup = Setup::new().relay_to((address, port).into()).quick_retries();
    let spool = setup.path().join("spool");
    let Some(disk) = SmallDisk::tmpfs(&spool, "size=3m") else {
        return skipped(TEST, "a tmpfs cannot be mounted here");
    };
    let mut ironpost = setup.start();
    let mut client = ironpost.connect();
    client.hello();
    let mut accepted = Vec::new();
    let mut refused = 0;
    for number in 0.. {
        assert!(number < 100, "the disk does not fill");
        let content = plain(&format!("m{number}"), 200_000);
        client.begin("a@client.test", &["box@remote.test"]);
        let reply = client.content(&content);
        if reply.starts_with("250 ") {
            accepted.push(content);
            continue;
        }
        assert!(reply.starts_with("452 4.3.1"), "{reply}");
        refused += 1;
        if refused == 3 {
            break;
        }
    }
    assert!(accepted.len() >= 5, "only {} fitted", accepted.len());
    // The next host comes up: room is made, and the same session is served again.
    let server = Server::start_at(address, port, Script::new());
    server.wait(accepted.len());
    ironpost.wait_empty();
    let content = plain("after", 200_000);
    client.send_mail("a@client.test", &["box@remote.test"], &content);
    client.quit();
    accepted.push(content);
    let taken = server.wait(accepted.len());
    assert_eq!(taken.len(), accepted.len());
    for content in &accepted {
        let found = taken.iter().find(|taken| taken.content.ends_with(content));
        assert_same(
            found.map(|taken| &taken.content[taken.content.len() - content.len()..]).unwrap_or_default(),
            content,
        );
    }
    ironpost.wait_empty();
    ironpost.stop();
    drop(disk);
}
