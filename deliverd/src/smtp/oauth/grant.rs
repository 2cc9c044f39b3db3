//! What is sent to a token endpoint (RFC 6749 4.4.2, 6), and what its answer means (5.1, 5.2). Pure.
//!
//! An answer is hostile: numbers are bounded, tokens must be such, and what it says in words is printable and without anything that was sent.

use common::oauth::{ClientAuth, Endpoint, Secret};
use common::text::printable;
use https::{Answer, Authorization};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// A token is not believed to live longer.
const LONGEST: Duration = Duration::from_secs(90 * 86_400);
/// Longest text of the endpoint within one of ours.
const SAID: usize = 300;

/// What the endpoint gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// To log in with.
    pub access_token: Secret,
    /// How long it is good for, as far as that was said.
    pub life: Option<Duration>,
    /// Takes the place of the one that was given for it.
    pub refresh_token: Option<Secret>,
    /// How long that one is good for.
    pub refresh_life: Option<Duration>,
}

/// The endpoint gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What it says, printable.
    pub text: String,
    /// An admin has to do something.
    pub lasting: bool,
}

/// The form, and how the client proves itself. `refresh_token` is the newest one.
pub fn request<'a>(
    endpoint: &'a Endpoint,
    refresh_token: Option<&'a Secret>,
) -> (Vec<(&'static str, &'a str)>, Authorization<'a>) {
    let mut fields = match refresh_token {
        Some(token) => vec![("grant_type", "refresh_token"), ("refresh_token", token.expose())],
        None => vec![("grant_type", "client_credentials")],
    };
    let mut authorization = Authorization::None;
    match (&endpoint.client_secret, endpoint.client_auth) {
        (Some(secret), ClientAuth::Basic) => {
            authorization = Authorization::Basic(&endpoint.client_id, secret);
        }
        (secret, _) => {
            fields.push(("client_id", &endpoint.client_id));
            fields.extend(secret.as_ref().map(|secret| ("client_secret", secret.expose())));
        }
    }
    fields.extend(endpoint.scope.as_deref().map(|scope| ("scope", scope)));
    (fields, authorization)
}

/// A number, or one in quotes, as some write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

impl Seconds {
    fn span(self) -> Option<Duration> {
        let seconds = match self {
            Self::Number(seconds) => seconds,
            Self::Text(text) => text.trim().parse().ok()?,
        };
        // 0 means "never" where it is said of a refresh token, and makes no sense of another one.
        (seconds >= 1.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST).min(LONGEST))
    }
}

#[derive(Deserialize)]
struct Success {
    access_token: String,
    token_type: String,
    expires_in: Option<Seconds>,
    refresh_token: Option<String>,
    #[serde(alias = "refresh_expires_in")]
    refresh_token_expires_in: Option<Seconds>,
}

/// Reads the answer; `secrets` is what was sent.
pub fn read(answer: &Answer, secrets: &[&Secret]) -> Result<Granted, Refused> {
    let broken = |what: &str| Refused { text: what.to_owned(), lasting: false };
    if answer.status != 200 {
        return Err(refusal(answer, secrets));
    }
    let said: Success = answer.json().map_err(|what| broken(&format!("its answer is {what}")))?;
    if !said.token_type.eq_ignore_ascii_case("bearer") {
        return Err(broken("it gives a token of another type than Bearer"));
    }
    let access_token =
        Secret::new(&said.access_token).ok_or_else(|| broken("its token is empty, too long or no token"))?;
    let refresh_token = said.refresh_token.filter(|text| !text.is_empty()).map(|text| Secret::new(&text));
    if refresh_token == Some(None) {
        return Err(broken("its refresh token is too long or no token"));
    }
    Ok(Granted {
        access_token,
        life: said.expires_in.and_then(Seconds::span),
        refresh_token: refresh_token.flatten(),
        refresh_life: said.refresh_token_expires_in.and_then(Seconds::span),
    })
}

/// RFC 6749 5.2. What an error means for us: only what an admin can mend lasts.
fn refusal(answer: &Answer, secrets: &[&Secret]) -> Refused {
    let said: Value = answer.json().unwrap_or_default();
    let text = |key: &str| said.get(key).and_then(Value::as_str).map(|text| mask(text, secrets));
    let error = text("error");
    let lasting = matches!(
        error.as_deref(),
        Some(
            "invalid_request" | "invalid_client" | "invalid_grant" | "unauthorized_client" | "invalid_scope"
        )
    ) || error.as_deref() == Some("unsupported_grant_type");
    let words = [error, text("error_description")].into_iter().flatten().collect::<Vec<_>>().join(": ");
    let text = match words.as_str() {
        "" => format!("it says HTTP {}", answer.status),
        words => format!("it says HTTP {}, {words}", answer.status),
    };
    Refused { text, lasting }
}

fn mask(text: &str, secrets: &[&Secret]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        // Shorter ones would make a riddle of every text.
        if secret.expose().len() >= 4 {
            text = text.replace(secret.expose(), "[...]");
        }
    }
    printable(&text, SAID)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::oauth::TokenFile;

    fn endpoint(more: &str) -> Endpoint {
        let text = format!("token_endpoint = \"https://x.example/\"\nclient_id = \"me\"\n{more}");
        match TokenFile::parse("t".as_ref(), &text).unwrap() {
            TokenFile::Endpoint(endpoint) => *endpoint,
            TokenFile::Fixed { .. } => panic!("{text}"),
        }
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text).unwrap()
    }

    #[test]
    fn forms() {
        let newest = secret("newest");
        let refresh = "refresh_token = \"first\"\n";
        for (more, token, fields, basic) in [
            (
                refresh.to_owned(),
                Some(&newest),
                &["grant_type=refresh_token", "refresh_token=newest", "client_id=me"][..],
                false,
            ),
            (
                format!("{refresh}client_secret = \"s\"\nscope = \"a b\"\n"),
                Some(&newest),
                &[
                    "grant_type=refresh_token",
                    "refresh_token=newest",
                    "client_id=me",
                    "client_secret=s",
                    "scope=a b",
                ],
                false,
            ),
            (
                "client_secret = \"s\"\nclient_auth = \"basic\"\n".into(),
                None,
                &["grant_type=client_credentials"],
                true,
            ),
        ] {
            let endpoint = endpoint(&more);
            let (sent, authorization) = request(&endpoint, token);
            let sent: Vec<_> = sent.iter().map(|(key, value)| format!("{key}={value}")).collect();
            assert_eq!(sent, fields, "{more}");
            assert_eq!(matches!(authorization, Authorization::Basic("me", s) if s.expose() == "s"), basic);
        }
    }

    #[test]
    fn answers() {
        let granted = |life: Option<u64>, refresh: Option<&str>, refresh_life: Option<u64>| {
            Ok(Granted {
                access_token: secret("tok"),
                life: life.map(Duration::from_secs),
                refresh_token: refresh.map(secret),
                refresh_life: refresh_life.map(Duration::from_secs),
            })
        };
        let refused = |lasting, text: &str| Err(Refused { text: text.into(), lasting });
        let long = 90 * 86_400;
        for (status, body, expected) in [
            (200, r#"{"access_token":"tok","token_type":"Bearer"}"#, granted(None, None, None)),
            (
                200,
                r#"{"access_token":"tok","token_type":"bearer","expires_in":3599}"#,
                granted(Some(3599), None, None),
            ),
            (
                200,
                r#"{"access_token":"tok","token_type":"bearer","expires_in":"3599","scope":"x"}"#,
                granted(Some(3599), None, None),
            ),
            (
                200,
                r#"{"access_token":"tok","token_type":"BEARER","expires_in":1e99}"#,
                granted(Some(long), None, None),
            ),
            (
                200,
                r#"{"access_token":"tok","token_type":"bearer","expires_in":-5}"#,
                granted(None, None, None),
            ),
            (
                200,
                r#"{"access_token":"tok","token_type":"bearer","expires_in":"soon"}"#,
                granted(None, None, None),
            ),
            (
                200,
                r#"{"access_token":"tok","token_type":"bearer","refresh_token":"new","refresh_expires_in":1800}"#,
                granted(None, Some("new"), Some(1800)),
            ),
            (
                200,
                r#"{"access_token":"tok","token_type":"bearer","refresh_token":"","refresh_token_expires_in":0}"#,
                granted(None, None, None),
            ),
            (
                200,
                r#"{"access_token":"tok","token_type":"mac"}"#,
                refused(false, "it gives a token of another type than Bearer"),
            ),
            (
                200,
                r#"{"access_token":"t k","token_type":"bearer"}"#,
                refused(false, "its token is empty, too long or no token"),
            ),
            (
                200,
                r#"{"access_token":"","token_type":"bearer"}"#,
                refused(false, "its token is empty, too long or no token"),
            ),
            (
                200,
                r#"{"access_token":"a","token_type":"bearer","refresh_token":"\n"}"#,
                refused(false, "its refresh token is too long or no token"),
            ),
            (200, "<html>", refused(false, "its answer is no JSON (line 1, column 1)")),
            (200, "{}", refused(false, "its answer is not what was asked for (line 1, column 2)")),
            (400, r#"{"error":"invalid_grant"}"#, refused(true, "it says HTTP 400, invalid_grant")),
            (
                401,
                r#"{"error":"invalid_client","error_description":"hush is\nwrong"}"#,
                refused(true, "it says HTTP 401, invalid_client: [...] is\\x0awrong"),
            ),
            (
                400,
                r#"{"error":"temporarily_unavailable"}"#,
                refused(false, "it says HTTP 400, temporarily_unavailable"),
            ),
            (503, "sorry", refused(false, "it says HTTP 503")),
            (302, "", refused(false, "it says HTTP 302")),
            (500, r#"{"error":{"code":1}}"#, refused(false, "it says HTTP 500")),
        ] {
            let answer = Answer { status, body: body.into() };
            assert_eq!(read(&answer, &[&secret("hush")]), expected, "{status} {body}");
        }
        let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(10_000));
        let refused = read(&Answer { status: 400, body: long.into() }, &[]).unwrap_err();
        assert!(refused.text.len() < 400);
    }
}
