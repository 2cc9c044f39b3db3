//! What a session did, counted: for the line at its end, and for the limits on errors and on commands that
//! carry no mail.

use super::verbs::{Rule, TABLE};
use std::collections::BTreeMap;
use std::fmt;

/// Errors that end a session.
pub const ERROR_LIMIT: u32 = 20;
/// Commands without mail that a session may have, beside its first HELO or EHLO.
pub const JUNK_LIMIT: u32 = 100;
/// Refusals for another time that do not count as errors: a client whose long list has to wait does nothing
/// wrong (RFC 5321 4.5.3.1.10), but nobody's list is longer, and all of it for another time.
pub const DEFERRAL_LIMIT: u32 = 1000;

/// Counts; saturating.
#[derive(Debug, Default)]
pub struct Tally {
    /// By place in the table of verbs (the table's length: unknown): how often it went well, how often it
    /// came.
    verbs: BTreeMap<u8, (u16, u16)>,
    errors: u32,
    junk: u32,
    deferrals: u32,
}

impl Tally {
    /// A command came. `verb` is its place in the table, `None` when it is unknown.
    pub fn came(&mut self, verb: Option<usize>) {
        let verb = verb.unwrap_or(TABLE.len());
        if TABLE.get(verb).is_some_and(|rule| rule.junk) {
            self.junk();
        }
        let (_, came) = self.verbs.entry(key(verb)).or_default();
        *came = came.saturating_add(1);
    }

    /// It went well.
    pub fn went_well(&mut self, verb: usize) {
        let (well, _) = self.verbs.entry(key(verb)).or_default();
        *well = well.saturating_add(1);
    }

    /// A mistake of the client's.
    pub fn error(&mut self) {
        self.errors = self.errors.saturating_add(1);
    }

    /// It carried no mail.
    pub fn junk(&mut self) {
        self.junk = self.junk.saturating_add(1);
    }

    /// Something was put off to another time.
    pub fn deferral(&mut self) {
        self.deferrals = self.deferrals.saturating_add(1);
        if self.deferrals > DEFERRAL_LIMIT {
            self.error();
        }
    }

    /// A message was accepted: what went before is forgiven.
    pub fn forgive(&mut self) {
        (self.errors, self.junk, self.deferrals) = (0, 0, 0);
    }

    /// Has the client used up our patience?
    pub fn is_over(&self) -> bool {
        self.errors >= ERROR_LIMIT || self.junk > JUNK_LIMIT
    }
}

fn key(verb: usize) -> u8 {
    u8::try_from(verb).unwrap_or(u8::MAX)
}

/// ` ehlo=1 mail=1 rcpt=0/1 commands=2/3`: Postfix's form, with a blank in front of each.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |f: &mut fmt::Formatter<'_>, name: &str, good: u32, all: u32| {
            if good == all { write!(f, " {name}={all}") } else { write!(f, " {name}={good}/{all}") }
        };
        let (mut good, mut all) = (0u32, 0u32);
        for (verb, (well, came)) in &self.verbs {
            let rule: Option<&Rule> = TABLE.get(usize::from(*verb));
            let name = rule.map_or("unknown".to_owned(), |rule| rule.name.to_ascii_lowercase());
            count(f, &name, (*well).into(), (*came).into())?;
            good = good.saturating_add((*well).into());
            all = all.saturating_add((*came).into());
        }
        count(f, "commands", good, all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::verbs::find;

    #[test]
    fn the_line_at_the_end_reads_as_postfix_writes_it() {
        let mut tally = Tally::default();
        assert_eq!(tally.to_string(), " commands=0");
        for (name, well) in [("EHLO", true), ("RCPT", false), ("MAIL", true), ("RCPT", true), ("XYZ", false)]
        {
            let verb = find(name.as_bytes()).map(|(i, _)| i);
            tally.came(verb);
            if let (Some(verb), true) = (verb, well) {
                tally.went_well(verb);
            }
        }
        assert_eq!(tally.to_string(), " ehlo=1 mail=1 rcpt=1/2 unknown=0/1 commands=3/5");
    }
}
