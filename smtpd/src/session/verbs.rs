//! The table of verbs: what each is allowed in, counts as, and does to a pipelining group. The rules of the
//! session that concern one verb alone stand here and nowhere else.

use super::reply::{
    DATA_AFTER_BDAT, HELLO_FIRST, IN_TRANSACTION, NEED_MAIL, NEED_RCPT, NESTED_MAIL, RCPT_AFTER_BDAT, Reply,
};

/// How far the dialogue is, as far as verbs are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No HELO or EHLO yet.
    Fresh,
    /// Greeted; no transaction.
    Greeted,
    /// MAIL was accepted, no recipient yet.
    Sender,
    /// At least one recipient was accepted.
    Recipients,
    /// A part of the content has come by BDAT, or was refused there.
    Chunks,
}

/// All stages, in order.
pub const STAGES: [Stage; 5] =
    [Stage::Fresh, Stage::Greeted, Stage::Sender, Stage::Recipients, Stage::Chunks];

/// What is answered instead of carrying a verb out, in the order of [`STAGES`]; `None` where it is allowed.
pub type Refusals = [Option<&'static Reply>; STAGES.len()];

/// What a verb does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// RFC 5321 4.1.1.1.
    Helo,
    /// RFC 5321 4.1.1.1.
    Ehlo,
    /// RFC 5321 4.1.1.2.
    Mail,
    /// RFC 5321 4.1.1.3.
    Rcpt,
    /// RFC 5321 4.1.1.4.
    Data,
    /// RFC 3030 2.
    Bdat,
    /// RFC 5321 4.1.1.5.
    Rset,
    /// RFC 5321 4.1.1.9.
    Noop,
    /// RFC 5321 4.1.1.6.
    Vrfy,
    /// RFC 5321 4.1.1.8.
    Help,
    /// RFC 5321 4.1.1.10.
    Quit,
    /// Postfix's XCLIENT_README.
    Xclient,
    /// RFC 3207.
    StartTls,
    /// RFC 4954.
    Auth,
    /// Known to the world, not offered here: refused with 502.
    NotOffered,
    /// Another protocol's: the session ends.
    Foreign,
}

/// One line of the table.
#[derive(Debug)]
pub struct Rule {
    /// As on the wire, in upper case.
    pub name: &'static str,
    /// What it does.
    pub verb: Verb,
    /// What is answered instead, by stage; `None` where the verb is allowed.
    pub refusal: Refusals,
    /// Must it be the last of a pipelining group, so that its reply may not wait for company (RFC 2920 3.1,
    /// 3.2)?
    pub ends_group: bool,
    /// Does it count towards the limit of commands that carry no mail?
    pub junk: bool,
    /// Where authentication is required: is it for clients that have not logged in, too (RFC 4954 6)?
    pub anonymous: bool,
}

impl Rule {
    /// The refusal in this stage, if it is not allowed there.
    pub fn refusal_in(&self, stage: Stage) -> Option<&'static Reply> {
        STAGES.iter().zip(self.refusal).find(|(s, _)| **s == stage).and_then(|(_, refusal)| refusal)
    }
}

const ANY: Refusals = [None; STAGES.len()];
#[rustfmt::skip]
const MAIL_STAGES: Refusals =
    [Some(&HELLO_FIRST), None, Some(&NESTED_MAIL), Some(&NESTED_MAIL), Some(&NESTED_MAIL)];
const RCPT_STAGES: Refusals = [Some(&NEED_MAIL), Some(&NEED_MAIL), None, None, Some(&RCPT_AFTER_BDAT)];
const DATA_STAGES: Refusals =
    [Some(&NEED_RCPT), Some(&NEED_RCPT), Some(&NEED_RCPT), None, Some(&DATA_AFTER_BDAT)];
const BDAT_STAGES: Refusals = [Some(&NEED_RCPT), Some(&NEED_RCPT), Some(&NEED_RCPT), None, None];

const IDLE_STAGES: Refusals =
    [None, None, Some(&IN_TRANSACTION), Some(&IN_TRANSACTION), Some(&IN_TRANSACTION)];

#[rustfmt::skip]
const AUTH_STAGES: Refusals =
    [Some(&HELLO_FIRST), None, Some(&IN_TRANSACTION), Some(&IN_TRANSACTION), Some(&IN_TRANSACTION)];

const fn rule(
    name: &'static str,
    verb: Verb,
    refusal: Refusals,
    (ends_group, junk, anonymous): (bool, bool, bool),
) -> Rule {
    Rule { name, verb, refusal, ends_group, junk, anonymous }
}

/// The table, in the order in which the counts of a session are logged.
#[rustfmt::skip]
pub const TABLE: &[Rule] = &[
    //   name        does               refused        ends   junk   before
    //                                  in stages      group         login
    rule("HELO",     Verb::Helo,        ANY,           (true,  true,  true)),
    rule("EHLO",     Verb::Ehlo,        ANY,           (true,  true,  true)),
    rule("STARTTLS", Verb::StartTls,    ANY,           (true,  false, true)),
    rule("AUTH",     Verb::Auth,        AUTH_STAGES,   (true,  false, true)),
    rule("MAIL",     Verb::Mail,        MAIL_STAGES,   (false, false, false)),
    rule("RCPT",     Verb::Rcpt,        RCPT_STAGES,   (false, false, false)),
    rule("DATA",     Verb::Data,        DATA_STAGES,   (true,  false, false)),
    rule("BDAT",     Verb::Bdat,        BDAT_STAGES,   (false, false, false)),
    rule("RSET",     Verb::Rset,        ANY,           (false, true,  true)),
    rule("NOOP",     Verb::Noop,        ANY,           (true,  true,  true)),
    rule("VRFY",     Verb::Vrfy,        ANY,           (true,  true,  false)),
    rule("EXPN",     Verb::NotOffered,  ANY,           (true,  false, true)),
    rule("ETRN",     Verb::NotOffered,  ANY,           (true,  false, true)),
    rule("TURN",     Verb::NotOffered,  ANY,           (true,  false, true)),
    rule("HELP",     Verb::Help,        ANY,           (false, true,  true)),
    rule("XCLIENT",  Verb::Xclient,     IDLE_STAGES,   (true,  true,  true)),
    rule("QUIT",     Verb::Quit,        ANY,           (true,  false, true)),
    rule("GET",      Verb::Foreign,     ANY,           (true,  false, true)),
    rule("POST",     Verb::Foreign,     ANY,           (true,  false, true)),
    rule("CONNECT",  Verb::Foreign,     ANY,           (true,  false, true)),
    rule("HEAD",     Verb::Foreign,     ANY,           (true,  false, true)),
    rule("PUT",      Verb::Foreign,     ANY,           (true,  false, true)),
    rule("DELETE",   Verb::Foreign,     ANY,           (true,  false, true)),
    rule("PATCH",    Verb::Foreign,     ANY,           (true,  false, true)),
    rule("OPTIONS",  Verb::Foreign,     ANY,           (true,  false, true)),
    rule("TRACE",    Verb::Foreign,     ANY,           (true,  false, true)),
    rule("PRI",      Verb::Foreign,     ANY,           (true,  false, true)),
    rule("HOST:",    Verb::Foreign,     ANY,           (true,  false, true)),
    rule("SSH-",     Verb::Foreign,     ANY,           (true,  false, true)),
];

/// The rule of a verb, in any case of letters. A name in the table that ends with `-` stands for all words that
/// begin with it.
pub fn find(name: &[u8]) -> Option<(usize, &'static Rule)> {
    TABLE.iter().enumerate().find(|(_, rule)| {
        let known = rule.name.as_bytes();
        let name = if known.ends_with(b"-") { name.get(..known.len()).unwrap_or(name) } else { name };
        known.eq_ignore_ascii_case(name)
    })
}
