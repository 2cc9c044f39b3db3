//! Whole submissions into a spool in a temporary folder.

use super::*;
use spool::layout::Queue;
use spool::queue_file::QueueFile;

/// The envelope and the content that come of it, or the exit code.
fn submit(args: &str, input: &[u8]) -> Result<(Envelope, String), Failure> {
    let folder = tempfile::tempdir().unwrap();
    let text = "hostname = \"h.example\"\nmail_name = \"here.example\"\nspool_directory = \"spool\"\n\
                [smtpd]\nmessage_size_limit = \"100K\"\n";
    let config = Config::parse(text, "x".as_ref(), folder.path()).unwrap();
    let spool = Spool::new(&config.spool_directory);
    std::fs::create_dir_all(spool.directory(Queue::Maildrop)).unwrap();
    let args = ["sendmail"].into_iter().chain(args.split(' ').filter(|a| !a.is_empty()));
    let options = options::parse(args.map(OsString::from)).unwrap();
    let result = send(&options, &config, input);
    let files: Vec<_> = std::fs::read_dir(spool.directory(Queue::Maildrop)).unwrap().collect();
    match result {
        Ok((id, _)) => {
            assert_eq!(files.len(), 1);
            let file = QueueFile::open(&spool.path(Queue::Maildrop, id)).unwrap();
            let mut content = String::new();
            file.content().unwrap().read_to_string(&mut content).unwrap();
            Ok((file.envelope().clone(), content))
        }
        Err(failure) => {
            assert!(files.is_empty(), "a refused message must leave nothing");
            Err(failure)
        }
    }
}

fn recipients(envelope: &Envelope) -> Vec<String> {
    envelope.recipients.iter().map(|r| r.address.to_string()).collect()
}

#[test]
fn sender_recipients_and_content_are_as_told() {
    for (args, input, sender, to, content) in [
        ("-f a@b c", "From: x\n\nhello\n", "a@b", &["c@here.example"][..], "From: x\r\n\r\nhello\r\n"),
        (
            "-f a@b -F Joe c@d c@D",
            "Subject: s\n\nx",
            "a@b",
            &["c@d"],
            "Subject: s\r\nFrom: Joe <a@b>\r\n\r\nx\r\n",
        ),
        ("-f <> -F M c@d", "hello\n", "", &["c@d"], "From: M <MAILER-DAEMON@here.example>\r\n\r\nhello\r\n"),
        (
            "-f joe -t -i",
            "To: a@b\nBcc: c@d\nFrom: x\n\n.\n",
            "joe@here.example",
            &["a@b", "c@d"],
            "To: a@b\r\nFrom: x\r\n\r\n.\r\n",
        ),
        (
            "-f a@b -t e@f",
            "To: a@b\nFrom: x\n\n.\nlost",
            "a@b",
            &["e@f", "a@b"],
            "To: a@b\r\nFrom: x\r\n\r\n",
        ),
        ("-f a@b c@d", "From x Sun\nFrom: x\n", "a@b", &["c@d"], "From: x\r\n"),
        ("-fa@b -Fx c@d", "", "a@b", &["c@d"], "From: x <a@b>\r\n"),
    ] {
        let (envelope, got) = submit(args, input.as_bytes()).unwrap();
        assert_eq!((envelope.sender.to_string().as_str(), got.as_str()), (sender, content), "{args}");
        assert_eq!(recipients(&envelope), to, "{args}");
        assert_eq!(envelope.origin, Origin::Local { uid: getuid().as_raw() });
    }
}

#[test]
fn without_f_the_login_name_is_the_sender() {
    let (envelope, content) = submit("a@b", b"Subject: s\n").unwrap();
    let login = User::from_uid(getuid()).unwrap().unwrap().name;
    assert_eq!(envelope.sender.to_string(), format!("{login}@here.example"));
    assert!(
        content.contains(&format!("{login}@here.example")) && content.contains("\r\nFrom: "),
        "{content}"
    );
}

#[test]
fn eight_bit_content_is_declared() {
    for (args, input, body) in [
        ("-fa@b c@d", "Content-Transfer-Encoding: 8bit\n\n", Body::EightBitMime),
        ("-fa@b -B8BITMIME c@d", "", Body::EightBitMime),
        ("-fa@b c@d", "", Body::SevenBit),
    ] {
        assert_eq!(submit(args, input.as_bytes()).unwrap().0.body, body, "{args} {input}");
    }
}

#[test]
fn large_messages_are_whole_and_too_large_ones_are_refused() {
    let line = format!("{}\n", "x".repeat(99));
    let (_, content) = submit("-fa@b c@d", format!("From: x\n\n{}", line.repeat(1000)).as_bytes()).unwrap();
    assert_eq!(content, format!("From: x\r\n\r\n{}", line.repeat(1000).replace('\n', "\r\n")));
    assert_eq!(submit("-fa@b c@d", line.repeat(1100).as_bytes()).unwrap_err().code, exit::DATA);
    let endless = "X: y\n".repeat(MAX_HEADER / 5);
    assert_eq!(submit("-fa@b c@d", endless.as_bytes()).unwrap_err().code, exit::DATA);
}

#[test]
fn submissions_that_are_refused() {
    for (args, input, code) in [
        ("", "To: a@b\n", exit::USAGE),
        ("-t", "Subject: a@b\n", exit::USAGE),
        ("-t", "To: undisclosed-recipients:;\n", exit::USAGE),
        ("-t", "To: a@b c@d\n", exit::DATA),
        ("a@", "", exit::DATA),
        ("-f a@ a@b", "", exit::USAGE),
        ("-f a,b a@b", "", exit::USAGE),
    ] {
        assert_eq!(submit(args, input.as_bytes()).unwrap_err().code, code, "{args} {input}");
    }
}

#[test]
fn what_is_asked_of_notifications_is_in_the_envelope() {
    let (envelope, _) = submit("-f a@b -N success,delay -R full -V id+1 c@d e@f", b"From: x\n\n").unwrap();
    assert_eq!(envelope.dsn.ret.map(|ret| ret.to_string()).as_deref(), Some("FULL"));
    assert_eq!(envelope.dsn.envelope_id.as_ref().map(|id| id.as_str()), Some("id+1"));
    let asked: Vec<_> = envelope.recipients.iter().map(|r| r.dsn.notify.to_string()).collect();
    assert_eq!(asked, ["SUCCESS,DELAY"; 2]);
    let (envelope, _) = submit("-f a@b c@d", b"From: x\n\n").unwrap();
    assert!(envelope.dsn.ret.is_none() && envelope.recipients[0].dsn.notify.is_absent());
}
