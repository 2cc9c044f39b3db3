//! Everything at once: a load for good, failing, hanging and absent next hosts, and daemons killed with -9 at random moments.
//!
//! Everything acknowledged arrives at least once, or its bounce does. What arrives twice must have a reason that explains it: the other
//! side took it and hung up before it said so, or a daemon was killed between the delivery and the journal; all of them are counted.
//!
//! `IRONPOST_CHAOS_MESSAGES` sets how many messages (`make soak`), `IRONPOST_CHAOS_SEED` plays a run's dice again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use ironpost_tests::DEADLINE;
use ironpost_tests::counterpart::script::{Act, Script, Server};
use ironpost_tests::crowd::{Crowd, Letter};
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::net::{free_port, own_address};
use ironpost_tests::random::Random;
use ironpost_tests::setup::Setup;
use nix::sys::signal::Signal;

/// Between a delivery and the moment when it is written down, generously: a kill later than that explains no duplicate.
const UNWRITTEN: Duration = Duration::from_secs(5);

/// What is killed in turn. With everything, the supervisor's pauses begin anew.
const VICTIMS: [&[&str]; 5] =
    [&["smtpd"], &["queued"], &["deliverd", "smtp"], &["deliverd", "local"], EVERYTHING];
const EVERYTHING: &[&str] = &["everything"];

/// Message `number`: to a Maildir, a healthy host, and one more, whose address names message and host.
fn letter(number: usize) -> Letter {
    let mut to = vec!["alice@example.test".to_owned()];
    to.extend(recipients(number).into_iter().skip(1));
    Letter {
        // The bounce's recipient names the message, too.
        from: format!("carol+m{number}@example.test"),
        to,
        content: format!("Subject: m{number}\r\n\r\n{}\r\n", "some text ".repeat(number % 400)),
    }
}

/// The recipients of message `number`. Alice's stands for its copy in her Maildir.
fn recipients(number: usize) -> Vec<String> {
    let mut list = vec![format!("alice-m{number}"), format!("m{number}@healthy.test")];
    match number % 4 {
        0 => list.push(format!("m{number}@down.test")),
        1 => list.push(format!("m{number}@hanging.test")),
        _ => list.extend([format!("m{number}a@failing.test"), format!("m{number}b@failing.test")]),
    }
    list
}

/// When something arrived, and whether its sender was told so.
struct Arrival {
    at: SystemTime,
    answered: bool,
}

/// All there is on the other side.
struct World {
    healthy: Server,
    failing: Server,
    hanging: Option<Server>,
    hanging_at: SocketAddr,
    down: Option<Server>,
    down_at: SocketAddr,
}

impl World {
    fn new(seed: u64) -> Self {
        // Whatever phase a connection gets to, it goes no further.
        let hangs = Script::new()
            .seed(seed)
            .sometimes(40, "CONNECT", Act::Stall)
            .sometimes(40, "EHLO", Act::Stall)
            .sometimes(40, "MAIL", Act::Stall)
            .sometimes(40, "RCPT", Act::Stall)
            .sometimes(40, "DATA", Act::Stall)
            .on(".", Act::Stall);
        let mut fails = Script::new().seed(seed + 1).sometimes(5, "CONNECT", Act::Reply("421 4.3.2 busy"));
        for event in ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."] {
            fails = fails.sometimes(1, event, Act::Close);
        }
        for event in ["MAIL", "RCPT", "DATA", "."] {
            fails = fails.sometimes(3, event, Act::Reply("451 4.3.0 not now"));
            fails = fails.sometimes(2, event, Act::Reply("550 5.7.1 never"));
        }
        fails =
            fails.sometimes(2, ".", Act::TakeAndClose).sometimes(1, ".", Act::ReplyAndClose("250 2.0.0 bye"));
        let nowhere = own_address();
        let hanging = Server::start(hangs);
        Self {
            healthy: Server::start(Script::new()),
            failing: Server::start(fails),
            hanging_at: hanging.address(),
            hanging: Some(hanging),
            down: None,
            down_at: (nowhere, free_port(nowhere)).into(),
        }
    }

    fn set_up(&self) -> Ironpost {
        // A fixed port, so that clients find a restarted smtpd.
        let port = free_port(Ipv4Addr::LOCALHOST);
        let routes = [
            ("healthy", self.healthy.address()),
            ("failing", self.failing.address()),
            ("hanging", self.hanging_at),
            ("down", self.down_at),
        ];
        let line =
            |(name, at): &(&str, SocketAddr)| format!("{name}.test smtp:[{}]:{}\n", at.ip(), at.port());
        Setup::new()
            .file("transport", &routes.iter().map(line).collect::<String>())
            .text("deliverd", "transport", "transport")
            .listen(&[&format!("127.0.0.1:{port}")])
            .quick_retries()
            .start()
    }

    /// The host that was down comes up.
    fn comes_up(&mut self) {
        self.down = Some(Server::start_at(self.down_at.ip(), self.down_at.port(), Script::new()));
    }

    /// The host that hangs lets go of all its connections, and works from now on.
    fn lets_go(&mut self) {
        self.hanging = None;
        self.hanging = Some(Server::start_at(self.hanging_at.ip(), self.hanging_at.port(), Script::new()));
    }

    /// How much has arrived so far.
    fn count(&self, ironpost: &Ironpost) -> usize {
        let servers = [Some(&self.healthy), Some(&self.failing), self.hanging.as_ref(), self.down.as_ref()];
        let folder = ironpost.path().join("mail/alice/new");
        servers.into_iter().flatten().map(Server::count).sum::<usize>()
            + std::fs::read_dir(folder).map(Iterator::count).unwrap_or_default()
    }

    /// All that arrived, by recipient.
    fn arrivals(&self, ironpost: &Ironpost) -> BTreeMap<String, Vec<Arrival>> {
        let mut found: BTreeMap<String, Vec<Arrival>> = BTreeMap::new();
        let servers = [Some(&self.healthy), Some(&self.failing), self.hanging.as_ref(), self.down.as_ref()];
        for taken in servers.into_iter().flatten().flat_map(Server::taken) {
            let at = SystemTime::now() - taken.at.elapsed();
            for recipient in taken.recipients {
                found.entry(recipient).or_default().push(Arrival { at, answered: taken.answered });
            }
        }
        for mail in ironpost.mail("alice") {
            let at = std::fs::metadata(&mail.path).and_then(|facts| facts.modified()).unwrap();
            let name = format!("alice-{}", mail.header("Subject").unwrap());
            found.entry(name).or_default().push(Arrival { at, answered: true });
        }
        found
    }
}

/// The recipients in the bounces that carol got, and how often.
fn bounced(ironpost: &Ironpost) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for mail in ironpost.mail("carol") {
        for line in mail.text().lines() {
            if let Some((_, address)) = line.split_once("Final-Recipient: rfc822;") {
                *found.entry(address.trim().to_owned()).or_default() += 1;
            }
        }
    }
    found
}

/// Kills, one at each moment when `progress` has grown by a random number below `step`, until `enough`. Notes when.
fn kill(
    ironpost: &mut Ironpost,
    dice: &Random,
    kills: &mut Vec<(SystemTime, &'static [&'static str])>,
    step: usize,
    progress: impl Fn(&Ironpost) -> usize,
    rest_at: impl Fn(usize),
    enough: usize,
) {
    let mut bag: Vec<&'static [&'static str]> = Vec::new();
    loop {
        let next = progress(ironpost) + 1 + dice.below(step);
        if next >= enough {
            return rest_at(usize::MAX);
        }
        // Not before the kill, but not without it either.
        rest_at(next + step / 2);
        ironpost
            .log
            .wait_until(&format!("progress to {next}"), || (progress(ironpost) >= next).then_some(()));
        if bag.is_empty() {
            bag = VICTIMS.to_vec();
            dice.shuffle(&mut bag);
        }
        let Some(victim) = bag.pop() else { continue };
        kills.push((SystemTime::now(), victim));
        if victim == EVERYTHING {
            ironpost.kill_all();
            ironpost.start();
        } else {
            // Nobody waits for the next one: what comes after it may well be killed meanwhile.
            let _ = nix::sys::signal::kill(ironpost.daemon(victim), Signal::SIGKILL);
        }
    }
}

/// Why something arrived again, at `again`, when it had arrived before; none when nothing explains it.
fn reason(
    first: &Arrival,
    again: &Arrival,
    kills: &[(SystemTime, &'static [&'static str])],
) -> Option<String> {
    if !first.answered {
        return Some("the next host took it and hung up without a word".to_owned());
    }
    // Times of the other side and ours are compared: a little slack.
    let (from, to) = (first.at - Duration::from_millis(500), (first.at + UNWRITTEN).min(again.at));
    let (_, victim) = kills.iter().find(|(at, victim)| *victim != ["smtpd"] && (from..=to).contains(at))?;
    Some(format!("{} killed between delivery and journal", victim.join(" ")))
}

#[test]
fn nothing_acknowledged_is_lost_in_chaos() {
    let began = Instant::now();
    let wanted =
        std::env::var("IRONPOST_CHAOS_MESSAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    let dice = Random::from_environment("IRONPOST_CHAOS_SEED");
    println!("chaos: {wanted} messages, IRONPOST_CHAOS_SEED={}", dice.seed());
    let mut world = World::new(dice.seed());
    let mut ironpost = world.set_up();
    let mut kills = Vec::new();

    // Kills in the middle of accepting, and then in the middle of the retries.
    let crowd = Crowd::start(ironpost.smtp(), 16, wanted, letter);
    let step = (wanted / 12).max(10);
    kill(&mut ironpost, &dice, &mut kills, step, |_| crowd.count(), |count| crowd.rest_at(count), wanted);
    ironpost.log.wait_until("all acknowledged", || (crowd.count() >= wanted).then_some(()));
    let acknowledged = crowd.finish();
    assert!(kills.len() >= 5, "only {} kills", kills.len());
    println!("chaos: {:.1?}: {} acknowledged, {} kills", began.elapsed(), acknowledged.len(), kills.len());
    world.comes_up();
    let now = world.count(&ironpost);
    kill(
        &mut ironpost,
        &dice,
        &mut kills,
        wanted / 20,
        |ironpost| world.count(ironpost),
        |_| (),
        now + wanted / 4,
    );

    // Everything but what hangs arrives while that hangs.
    let expected: BTreeSet<String> = acknowledged.iter().flat_map(|number| recipients(*number)).collect();
    let missing = |world: &World, ironpost: &Ironpost| -> Vec<String> {
        let (arrived, bounced) = (world.arrivals(ironpost), bounced(ironpost));
        expected
            .iter()
            .filter(|name| !arrived.contains_key(*name) && !bounced.contains_key(*name))
            .cloned()
            .collect()
    };
    let (mut looked, waiting): (Option<Instant>, _) = (None, Instant::now());
    ironpost.log.wait_until("all that does not hang", || {
        if looked.is_some_and(|at| at.elapsed() < Duration::from_millis(500)) {
            return None;
        }
        let mut missing = missing(&world, &ironpost);
        missing.retain(|name| !name.ends_with("@hanging.test"));
        looked = Some(Instant::now());
        let late = waiting.elapsed() + Duration::from_secs(5) > *DEADLINE;
        assert!(!late || missing.is_empty(), "lost or stuck, {} of them: {missing:?}", missing.len());
        missing.is_empty().then_some(())
    });
    println!("chaos: {:.1?}: all but what hangs has arrived", began.elapsed());
    world.lets_go();
    ironpost.wait_empty();
    println!("chaos: {:.1?}: the queue is empty", began.elapsed());

    let missing = missing(&world, &ironpost);
    assert!(missing.is_empty(), "lost {} of {}: {missing:?}", missing.len(), expected.len());
    let bounced = bounced(&ironpost);
    let wrong: Vec<_> = bounced.keys().filter(|address| !address.ends_with("@failing.test")).collect();
    assert!(wrong.is_empty(), "bounced though nobody refused it: {wrong:?}");
    // A message that was not acknowledged has no name to be missed by, but may well be there.
    let (mut reasons, mut unexplained): (BTreeMap<String, usize>, _) = (BTreeMap::new(), Vec::new());
    let arrivals = world.arrivals(&ironpost);
    for (name, mut list) in arrivals {
        list.sort_by_key(|arrival| arrival.at);
        for pair in list.windows(2) {
            match reason(&pair[0], &pair[1], &kills) {
                Some(reason) => *reasons.entry(reason).or_default() += 1,
                None => unexplained.push((name.clone(), pair[0].at, pair[1].at)),
            }
        }
    }
    for (reason, count) in &reasons {
        println!("chaos: {count} duplicates: {reason}");
    }
    let again: usize = bounced.values().map(|count| count - 1).sum();
    let of_queued = kills.iter().filter(|(_, victim)| *victim == ["queued"] || *victim == EVERYTHING).count();
    println!(
        "chaos: {} recipients bounced, {again} of them again: queued killed {of_queued} times",
        bounced.len()
    );
    // A kill can come between a notification and the journal on each of the few threads that write, and a notification names two recipients.
    assert!(again <= of_queued * 16, "{again} recipients bounced again");
    assert!(unexplained.is_empty(), "arrived twice for no reason: {unexplained:?}; kills: {kills:?}");
    assert_eq!(ironpost.mail("postmaster").len(), 0, "a bounce bounced");
    let corrupt =
        std::fs::read_dir(ironpost.spool().join("corrupt")).map(Iterator::count).unwrap_or_default();
    assert_eq!(corrupt, 0, "corrupt queue files");
    println!("chaos: {:.1?} in all", began.elapsed());
}
