//! Ironpost's on-disk queue: what is in it outlives every process; everything else can be lost.
//!
//! | state | who makes it | meaning | after a crash |
//! | --- | --- | --- | --- |
//! | unnamed file | smtpd, sendmail, queued ([`writer`]) | a message on its way in; nothing promised | gone with its process |
//! | `incoming/ID` | smtpd, after the file's data is on stable storage; `250` is sent after the folder is, too. Or: after the [`commit_log`] has it | accepted; perhaps being delivered | restored from the log after another boot; taken in at start |
//! | `maildrop/ID` | sendmail, in the same way | submitted; a hostile file until copied | copied into `incoming/` under the same ID, then removed |
//! | `active/ID` | queued, by rename | being delivered, for longer than a moment, or about to be | attempted again at once, but for what the journal says is done |
//! | `deferred/XX/ID.DUE` | queued, by rename, after the journal is on stable storage | waiting until DUE (seconds since 1970) | waits on |
//! | `hold/ID` | queued, by rename | kept until released | kept |
//! | `corrupt/NAME` | queued, by rename | could not be read; for an admin's eyes | kept |
//! | removed | queued, after every recipient is delivered, or its notification committed, or an admin deleted it | done | |
//!
//! A message has exactly one name at any time, and only queued gives it another one. Content and envelope are never rewritten; the
//! [`journal`] is only appended to. Names are hints about state, the journal is what happened: a file that is found in the wrong queue is
//! still delivered rightly. Formats: `doc/spool-format.md`.

#![forbid(unsafe_code)]

pub mod commit_log;
pub mod content;
pub mod control;
pub mod dispatch;
pub mod envelope;
pub mod facts;
pub mod group_sync;
pub mod id;
pub mod journal;
pub mod layout;
pub mod listing;
pub mod pressure;
pub mod prologue;
pub mod queue_file;
pub mod scan;
pub mod storage;
pub mod watch;
pub mod writer;
