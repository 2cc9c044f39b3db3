//! What an answer to a question about a token is worth (RFC 7662 2.2). Pure.

use super::cache::{LONGEST, REFUSED};
use crate::name;
use common::text::printable;
use common::time::Timestamp;
use https::Answer;
use serde_json::{Map, Value};

/// What a token must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Which member of the answer has the user's name.
    pub username: String,
    /// Words that must be in the token's scope, blanks between them.
    pub scope: String,
    /// For whom the token must be made.
    pub audience: Option<String>,
}

/// What a token is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This user's.
    Of(String),
    /// Nobody's, or not for us.
    Refused {
        /// For the log.
        why: String,
        /// It is good, but not for this.
        scope: bool,
    },
}

/// Reads the answer: what the token is worth, and until when that holds. Errors: the endpoint does not tell; printable.
pub fn read(said: &Answer, wanted: &Wanted, now: Timestamp) -> Result<(Verdict, Timestamp), String> {
    match said.status {
        200 => {}
        401 | 403 => {
            return Err(format!("it says HTTP {}: look at client_id and client_secret", said.status));
        }
        status => return Err(format!("it says HTTP {status}")),
    }
    let claims: Map<String, Value> = said.json().map_err(|what| format!("its answer is {what}"))?;
    let refused =
        |why: &str, scope| Ok((Verdict::Refused { why: why.to_owned(), scope }, now.after(REFUSED)));
    match claims.get("active") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return refused("the token is not active", false),
        _ => return Err("its answer does not say whether the token is active".into()),
    }
    let time = |key: &str| {
        claims.get(key).and_then(Value::as_f64).map(|seconds| Timestamp::from_seconds(seconds as i64))
    };
    let ends = time("exp");
    if ends.is_some_and(|ends| ends <= now) {
        return refused("the token has ended", false);
    }
    if time("nbf").is_some_and(|begins| begins > now) {
        return refused("the token is not good yet", false);
    }
    let scope = claims.get("scope").and_then(Value::as_str).unwrap_or_default();
    if let Some(missing) = words(&wanted.scope).find(|word| !words(scope).any(|has| has == *word)) {
        return refused(&format!("the token is not for {}", printable(missing, 100)), true);
    }
    if let Some(audience) = &wanted.audience
        && !is_for(claims.get("aud"), audience)
    {
        return refused("the token is made for somebody else", false);
    }
    // A member that is not there is a mistake in the configuration, and none of the client's.
    let Some(name) = claims.get(&wanted.username).and_then(Value::as_str) else {
        return Err(format!(
            "its answer has no text {:?}: look at username",
            printable(&wanted.username, 100)
        ));
    };
    if name::check(name).is_err() {
        return Err(format!("it says that this is {:?}, which cannot be a name here", printable(name, 100)));
    }
    let until = now.after(LONGEST).min(ends.unwrap_or(now.after(LONGEST)));
    Ok((Verdict::Of(name.to_owned()), until))
}

fn words(scope: &str) -> impl Iterator<Item = &str> {
    scope.split(' ').filter(|word| !word.is_empty())
}

/// RFC 7519 4.1.3: one, or a list.
fn is_for(said: Option<&Value>, audience: &str) -> bool {
    match said {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let now = Timestamp::from_seconds(1_000_000);
        let wanted = |scope: &str, audience: Option<&str>| Wanted {
            username: "username".into(),
            scope: scope.into(),
            audience: audience.map(str::to_owned),
        };
        let (any, mail, for_us) = (wanted("", None), wanted("mail send", None), wanted("", Some("us")));
        let of =
            |name: &str, life: i64| Ok((Verdict::Of(name.into()), Timestamp::from_seconds(1_000_000 + life)));
        let refused =
            |why: &str, scope| Ok((Verdict::Refused { why: why.into(), scope }, now.after(REFUSED)));
        let long = LONGEST.as_secs() as i64;
        let joe = r#""active":true,"username":"joe""#;
        for (wanted, status, body, expected) in [
            (&any, 200, format!("{{{joe}}}"), of("joe", long)),
            (&any, 200, format!("{{{joe},\"exp\":1000060}}"), of("joe", 60)),
            (&any, 200, format!("{{{joe},\"exp\":9e99}}"), of("joe", long)),
            (&any, 200, format!("{{{joe},\"exp\":1000000}}"), refused("the token has ended", false)),
            (&any, 200, format!("{{{joe},\"nbf\":1000001}}"), refused("the token is not good yet", false)),
            (
                &any,
                200,
                r#"{"active":false,"username":"joe"}"#.into(),
                refused("the token is not active", false),
            ),
            (&mail, 200, format!("{{{joe},\"scope\":\"x send mail\"}}"), of("joe", long)),
            (
                &mail,
                200,
                format!("{{{joe},\"scope\":\"mail sends\"}}"),
                refused("the token is not for send", true),
            ),
            (&mail, 200, format!("{{{joe}}}"), refused("the token is not for mail", true)),
            (&for_us, 200, format!("{{{joe},\"aud\":\"us\"}}"), of("joe", long)),
            (&for_us, 200, format!("{{{joe},\"aud\":[\"you\",\"us\"]}}"), of("joe", long)),
            (
                &for_us,
                200,
                format!("{{{joe},\"aud\":\"you\"}}"),
                refused("the token is made for somebody else", false),
            ),
            (&for_us, 200, format!("{{{joe}}}"), refused("the token is made for somebody else", false)),
            (
                &any,
                200,
                r#"{"active":"true","username":"joe"}"#.into(),
                Err("its answer does not say whether the token is active"),
            ),
            (&any, 200, "{}".into(), Err("its answer does not say whether the token is active")),
            (
                &any,
                200,
                r#"{"active":true}"#.into(),
                Err("its answer has no text \"username\": look at username"),
            ),
            (
                &any,
                200,
                r#"{"active":true,"username":7}"#.into(),
                Err("its answer has no text \"username\": look at username"),
            ),
            (
                &any,
                200,
                r#"{"active":true,"username":"a\nb"}"#.into(),
                Err("it says that this is \"a\\\\x0ab\", which cannot be a name here"),
            ),
            (&any, 200, "[]".into(), Err("its answer is not what was asked for (line 1, column 0)")),
            (&any, 200, "<html>".into(), Err("its answer is no JSON (line 1, column 1)")),
            (&any, 401, String::new(), Err("it says HTTP 401: look at client_id and client_secret")),
            (&any, 503, format!("{{{joe}}}"), Err("it says HTTP 503")),
        ] {
            let said = Answer { status, body: body.clone().into() };
            assert_eq!(read(&said, wanted, now), expected.map_err(str::to_owned), "{status} {body}");
        }
    }
}
