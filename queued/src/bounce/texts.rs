//! The words of notifications: the built-in ones, and those that an admin puts in their place.
//!
//! Both go through the same parser ([`common::templates`]). A section that the admin's file does not have keeps its built-in text. Only
//! [`Texts::load`] reads a file; a file with a mistake is refused as a whole.

use super::lines::{Lines, WIDTH};
use super::{Kind, Notification, report};
use common::config::Config;
use common::table::TableError;
use common::templates::{Line, Placeholder, Section, Template, Templates, fill};
use std::path::Path;

const BUILT_IN: &str = include_str!("templates.txt");

/// A text for each kind of notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    failed: Template,
    delayed: Template,
    delivered: Template,
    postmaster: Template,
}

impl Texts {
    /// Those of a configuration.
    pub fn load(config: &Config) -> Result<Self, TableError> {
        let own = config.queued.notification_templates.as_deref();
        Self::new(own.map(Templates::load).transpose()?.unwrap_or_default())
    }

    /// These, and the built-in ones for what is absent.
    pub fn new(mut own: Templates) -> Result<Self, TableError> {
        let path = Path::new("built-in templates");
        let mut built_in = Templates::parse(path, BUILT_IN.as_bytes())?;
        let mut take = |section: Section| {
            own.remove(section)
                .or_else(|| built_in.remove(section))
                .ok_or_else(|| TableError::file(path, &format!("[{}] is missing", section.name())))
        };
        Ok(Self {
            failed: take(Section::Failed)?,
            delayed: take(Section::Delayed)?,
            delivered: take(Section::Delivered)?,
            postmaster: take(Section::Postmaster)?,
        })
    }

    fn of(&self, kind: Kind) -> &Template {
        match kind {
            Kind::Bounce => &self.failed,
            Kind::Delay => &self.delayed,
            Kind::Success => &self.delivered,
            Kind::DoubleBounce => &self.postmaster,
        }
    }
}

/// The Subject, folded where it is long.
pub(super) fn subject(out: &mut Lines, n: &Notification<'_>) {
    let text = fill(&n.texts.of(n.kind).subject, |placeholder| value(n, placeholder, false));
    out.wrapped("Subject: ", " ", &text);
}

/// The part that a person reads. Short lines are as in the template, long ones wrapped. `whole`: does the whole message come with it?
pub(super) fn for_people(n: &Notification<'_>, whole: bool) -> Vec<u8> {
    let mut out = Lines::default();
    for line in &n.texts.of(n.kind).lines {
        match line {
            Line::Recipients => report::recipients(&mut out, n.reports),
            Line::Pieces(pieces) => {
                let text = fill(pieces, |placeholder| value(n, placeholder, whole));
                if text.len() <= WIDTH { out.line(&text) } else { out.wrapped("", "", &text) }
            }
        }
    }
    out.into_bytes()
}

fn value(n: &Notification<'_>, placeholder: Placeholder, whole: bool) -> String {
    match placeholder {
        Placeholder::Hostname => n.hostname.to_string(),
        Placeholder::Sender if n.kind == Kind::DoubleBounce => "<>".into(),
        Placeholder::Sender => n.to.to_string(),
        Placeholder::QueueId => n.original_id.to_string(),
        Placeholder::Arrived => n.arrived.rfc5322().to_string(),
        Placeholder::Attached if whole => "It is attached".into(),
        Placeholder::Attached => "Its header is attached".into(),
        Placeholder::WillRetryUntil => n.retry_until.rfc5322().to_string(),
    }
}
