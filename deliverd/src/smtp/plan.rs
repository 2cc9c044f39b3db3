//! Which address is connected to next, and how long the ones before get. Pure.
//!
//! RFC 8305 5: when an address is slow, the next of the same preference is started beside it after
//! [`SAME_PREFERENCE`]. A less preferred exchange (RFC 5321 5.1) waits for the failure of the ones before,
//! or for [`LOWER_PREFERENCE`]. At most [`MAX_ADDRESSES`] are tried in an attempt (Postfix's
//! smtp_mx_address_limit), the last of them of another preference where there is one, so that a big group
//! of dead hosts does not hide the backup.

use super::resolve::Candidate;
use std::collections::VecDeque;
use std::time::Duration;

/// Most addresses tried in one attempt.
pub const MAX_ADDRESSES: usize = 5;
/// RFC 8305 8: recommended Connection Attempt Delay.
pub const SAME_PREFERENCE: Duration = Duration::from_millis(250);
/// The head start of a more preferred exchange.
pub const LOWER_PREFERENCE: Duration = Duration::from_secs(10);

/// What is left to try.
#[derive(Debug)]
pub struct Plan {
    waiting: VecDeque<Candidate>,
    begun: usize,
    tier: usize,
}

impl Plan {
    /// In the order of the list; tiers ascend.
    pub fn new(candidates: Vec<Candidate>) -> Self {
        Self { waiting: candidates.into(), begun: 0, tier: 0 }
    }

    /// How long after the start of the one before the next one may start beside it; `None` when there is
    /// none.
    pub fn delay(&self) -> Option<Duration> {
        let next = self.peek()?;
        Some(if next.tier == self.tier { SAME_PREFERENCE } else { LOWER_PREFERENCE })
    }

    /// The next one to start.
    pub fn start(&mut self) -> Option<Candidate> {
        let tier = self.peek()?.tier;
        while self.waiting.front().is_some_and(|candidate| candidate.tier < tier) {
            self.waiting.pop_front();
        }
        self.begun += 1;
        self.tier = tier;
        self.waiting.pop_front()
    }

    /// A candidate that was given up because another one won the race; it comes first again, should the
    /// winner fail us.
    pub fn put_back(&mut self, candidate: Candidate) {
        self.begun = self.begun.saturating_sub(1);
        self.waiting.push_front(candidate);
    }

    /// The last one could not even be tried from here (no route, no such address family): it does not count.
    pub fn forgive(&mut self) {
        self.begun = self.begun.saturating_sub(1);
    }

    fn peek(&self) -> Option<&Candidate> {
        if self.begun >= MAX_ADDRESSES {
            return None;
        }
        let first = self.waiting.front()?;
        let last_chance = self.begun + 1 == MAX_ADDRESSES && first.tier == 0;
        let backup = last_chance.then(|| self.waiting.iter().find(|candidate| candidate.tier > 0)).flatten();
        Some(backup.unwrap_or(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(tiers: &[usize]) -> Vec<Candidate> {
        let candidate = |(i, tier): (usize, &usize)| Candidate {
            name: i.to_string(),
            address: ([127, 0, 0, 1], 25).into(),
            tier: *tier,
        };
        tiers.iter().enumerate().map(candidate).collect()
    }

    fn all(mut plan: Plan) -> Vec<String> {
        std::iter::from_fn(|| plan.start()).map(|candidate| candidate.name).collect()
    }

    #[test]
    fn a_backup_always_gets_its_chance() {
        for (tiers, expected) in [
            (&[][..], &[][..]),
            (&[0], &["0"]),
            (&[0, 0, 1], &["0", "1", "2"]),
            (&[0, 0, 0, 0, 0, 0, 0], &["0", "1", "2", "3", "4"]),
            (&[0, 0, 0, 0, 0, 0, 1, 2], &["0", "1", "2", "3", "6"]),
            (&[0, 1, 2, 3, 4, 5], &["0", "1", "2", "3", "4"]),
            (&[0, 1, 1, 1, 1, 1, 2], &["0", "1", "2", "3", "4"]),
        ] {
            assert_eq!(all(Plan::new(candidates(tiers))), expected, "{tiers:?}");
        }
    }

    #[test]
    fn less_preferred_ones_wait_longer() {
        let mut plan = Plan::new(candidates(&[0, 0, 1]));
        plan.start();
        assert_eq!(plan.delay(), Some(SAME_PREFERENCE));
        let second = plan.start().unwrap();
        assert_eq!(plan.delay(), Some(LOWER_PREFERENCE));
        plan.put_back(second);
        assert_eq!(plan.delay(), Some(SAME_PREFERENCE));
        plan.start();
        plan.start();
        assert_eq!(plan.delay(), None);
    }

    #[test]
    fn what_cannot_be_tried_from_here_does_not_count() {
        let mut plan = Plan::new(candidates(&[0; 9]));
        for _ in 0..3 {
            plan.start();
            plan.forgive();
        }
        assert_eq!(all(plan).len(), MAX_ADDRESSES);
    }
}
