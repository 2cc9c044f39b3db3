//! Why no host was found, in Postfix's words.

use common::status::{EnhancedCode, Status};

/// What a name server said when it had no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The name does not exist.
    Name,
    /// The name exists, without records of this type.
    Records,
    /// No answer that could be relied on: a failure, a refusal, none at all.
    Unknown,
    /// Records that cannot be used.
    Malformed,
}

impl Missing {
    /// Could it be otherwise later?
    pub fn is_temporary(self) -> bool {
        self == Self::Unknown
    }

    fn words(self) -> &'static str {
        match self {
            Self::Name => "Host not found",
            Self::Records => "Host found but no data record of requested type",
            Self::Unknown => "Host not found, try again",
            Self::Malformed => "Malformed or unexpected name server reply",
        }
    }
}

fn name_service(code: EnhancedCode, name: &str, kind: &str, why: Missing) -> Status {
    let words = why.words();
    Status::local(
        code,
        format!("Host or domain name not found. Name service error for name={name} type={kind}: {words}"),
    )
}

/// The domain of the recipient cannot be found. RFC 3463 3.2: X.1.2 when it does not exist.
pub fn domain(name: &str, kind: &str, why: Missing) -> Status {
    let code = match why {
        Missing::Unknown => EnhancedCode::new(4, 4, 3),
        Missing::Name | Missing::Records => EnhancedCode::new(5, 1, 2),
        Missing::Malformed => EnhancedCode::new(5, 4, 4),
    };
    name_service(code, name, kind, why)
}

/// The exchanges are named, and none of them has an address.
pub fn exchange(name: &str, why: Missing) -> Status {
    let code = if why.is_temporary() { EnhancedCode::new(4, 4, 3) } else { EnhancedCode::new(5, 4, 4) };
    name_service(code, name, "A", why)
}

/// RFC 7505 4.1.
pub fn null_mx(domain: &str) -> Status {
    Status::local(EnhancedCode::new(5, 1, 10), format!("Domain {domain} does not accept mail (nullMX)"))
}

/// RFC 5321 5.1: the best host left is this one.
pub fn looping(nexthop: &str) -> Status {
    Status::local(EnhancedCode::new(5, 4, 6), format!("mail for {nexthop} loops back to myself"))
}

/// A failure that would be final, for a host that an admin named: a mistake in the configuration is mended,
/// not bounced.
pub fn of_configured_host(status: Status) -> Status {
    use common::status::Outcome;
    match status.outcome {
        Outcome::Failed => Status {
            outcome: Outcome::Deferred,
            code: status.code.with_class(Outcome::Deferred),
            text: common::text::printable(
                &format!("configuration problem: {}", status.text),
                common::status::MAX_STATUS_TEXT,
            ),
            ..status
        },
        Outcome::Delivered | Outcome::Deferred => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_postfix_s() {
        for (status, expected) in [
            (
                domain("x.example", "MX", Missing::Name),
                "5.1.2 Host or domain name not found. Name service error for name=x.example type=MX: Host not found",
            ),
            (
                domain("x.example", "A", Missing::Records),
                "5.1.2 Host or domain name not found. Name service error for name=x.example type=A: Host found but no data record of requested type",
            ),
            (
                exchange("mx.example", Missing::Unknown),
                "4.4.3 Host or domain name not found. Name service error for name=mx.example type=A: Host not found, try again",
            ),
            (null_mx("x.example"), "5.1.10 Domain x.example does not accept mail (nullMX)"),
            (looping("x.example"), "5.4.6 mail for x.example loops back to myself"),
            (
                of_configured_host(looping("[x.example]")),
                "4.4.6 configuration problem: mail for [x.example] loops back to myself",
            ),
        ] {
            assert_eq!(format!("{} {}", status.code, status.text), expected);
        }
    }
}
