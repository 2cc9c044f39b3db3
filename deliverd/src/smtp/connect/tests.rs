//! Races between real sockets on loopback addresses.

use super::super::testing::minute;
use super::*;
use std::net::SocketAddr;
use tokio::net::TcpListener;

fn candidate(address: SocketAddr, tier: usize) -> Candidate {
    Candidate { name: format!("mx{tier}.example"), address, tier }
}

/// A port on which nobody listens: bound, so that nobody else takes it, and never listened to.
fn closed_port() -> (tokio::net::TcpSocket, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn a_refusal_leads_to_the_next_at_once_and_is_remembered() {
    let (_socket, closed) = closed_port();
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let open = listener.local_addr().unwrap();
    for tier in [0, 1] {
        let memory = Arc::new(Memory::new());
        let candidates = vec![candidate(closed, 0), candidate(open, tier)];
        let mut dialer = Dialer::new(candidates, memory.clone());
        let began = Instant::now();
        let connected = dialer.next(&mut minute()).await.unwrap();
        assert_eq!(connected.peer.address, open);
        assert!(began.elapsed() < super::super::plan::LOWER_PREFERENCE);
        assert!(dialer.next(&mut minute()).await.is_none());
        let failure = dialer.failure().unwrap();
        assert_eq!(
            format!("{} {}", failure.code, failure.text),
            format!("4.4.1 connect to mx0.example[127.0.0.1]:{}: Connection refused", closed.port())
        );
        let hosts = ["127.0.0.1", "127.0.0.2"]
            .map(|ip| super::super::resolve::Host { name: ip.into(), addresses: vec![ip.parse().unwrap()] });
        memory.succeeded(open.ip(), Duration::from_millis(1));
        let firsts = (0..200).filter(|_| memory.order(hosts.to_vec())[0].0 == "127.0.0.2").count();
        assert!(firsts > 150, "{firsts}");
    }
}

/// A listener whose queue of connections is full: the kernel leaves further ones unanswered, as a host
/// behind a bad line does.
async fn silent() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.3:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut fill = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        fill.push(stream);
    }
    (listener, fill, address)
}

#[tokio::test]
async fn a_slow_address_is_overtaken_by_the_next_of_its_preference() {
    let (_listener, _fill, slow) = silent().await;
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let open = listener.local_addr().unwrap();
    let memory = Arc::new(Memory::new());
    let mut dialer = Dialer::new(vec![candidate(slow, 0), candidate(open, 0)], memory.clone());
    let began = Instant::now();
    let connected = dialer.next(&mut minute()).await.unwrap();
    assert_eq!(connected.peer.address, open);
    let took = began.elapsed();
    assert!(took >= super::super::plan::SAME_PREFERENCE && took < CONNECT_LIMIT / 2, "{took:?}");
    // The loser is at hand again, and known to be slow.
    let mut later = Dialer::new(Vec::new(), memory);
    assert!(later.next(&mut minute()).await.is_none() && later.failure().is_none());
    let (_stopper, mut short) = super::super::deadline::deadline(Instant::now() + Duration::from_millis(50));
    assert!(dialer.next(&mut short).await.is_none());
    let failure = dialer.failure().unwrap();
    let port = slow.port();
    assert_eq!(failure.text, format!("connect to mx0.example[127.0.0.3]:{port}: Connection timed out"));
}

#[tokio::test]
async fn what_cannot_be_reached_from_here_is_told_in_words() {
    // Broadcast is no address to connect to: the call fails at once, whatever routes there are.
    let nowhere = "255.255.255.255:25".parse().unwrap();
    let mut dialer = Dialer::new(vec![candidate(nowhere, 0)], Arc::new(Memory::new()));
    assert!(dialer.next(&mut minute()).await.is_none());
    let text = dialer.failure().unwrap().text;
    assert!(text.starts_with("connect to mx0.example[255.255.255.255]:25: "), "{text}");
    assert!(!text.contains("os error"), "{text}");
}
