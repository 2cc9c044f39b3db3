//! An entry as one JSON object on one line, with the keys of `postqueue -j`, and `recipients_total`,
//! `attempts` and `next_attempt` besides. Pure.
//!
//! Times are whole seconds since 1970.

use common::text::printable;
use serde::Serialize;
use spool::listing::Listed;

#[derive(Serialize)]
struct Entry<'a> {
    queue_name: &'static str,
    queue_id: &'a str,
    arrival_time: i64,
    message_size: u64,
    forced_expire: bool,
    sender: String,
    recipients: Vec<Recipient>,
    recipients_total: u64,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt: Option<i64>,
}

#[derive(Serialize)]
struct Recipient {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_reason: Option<String>,
}

/// The line, without line end.
pub fn line(listed: &Listed) -> String {
    let entry = Entry {
        queue_name: listed.queue.name(),
        queue_id: listed.id.as_str(),
        arrival_time: listed.arrived.seconds(),
        message_size: listed.size,
        // Nothing can be expired by force (yet): there is no such verb.
        forced_expire: false,
        sender: if listed.sender.is_null() { "MAILER-DAEMON".into() } else { listed.sender.to_string() },
        recipients: listed
            .recipients
            .iter()
            .map(|r| Recipient {
                address: r.address.to_string(),
                delay_reason: r.reason.as_deref().map(|text| printable(text, 2000)),
            })
            .collect(),
        recipients_total: listed.recipients_total,
        attempts: listed.attempts,
        next_attempt: listed.next_attempt.map(common::time::Timestamp::seconds),
    };
    // Strings and numbers always have a JSON form.
    serde_json::to_string(&entry).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_postqueue_and_more() {
        let lines: Vec<String> = crate::queue::text::tests::examples().iter().map(line).collect();
        let ids: Vec<String> =
            crate::queue::text::tests::examples().iter().map(|l| l.id.to_string()).collect();
        let refused = "connect to mx.example[192.0.2.1]:25: Connection refused";
        let expected = [
            concat!(
                r#"{"queue_name":"active","queue_id":"ID0","arrival_time":1795358702,"message_size":1500,"#,
                r#""forced_expire":false,"sender":"joe@here.example","#,
                r#""recipients":[{"address":"jane@there.example"}],"recipients_total":1,"attempts":0}"#
            ),
            concat!(
                r#"{"queue_name":"deferred","queue_id":"ID1","arrival_time":1795358702,"message_size":600,"#,
                r#""forced_expire":false,"sender":"MAILER-DAEMON","#,
                r#""recipients":[{"address":"a@there.example","delay_reason":"REFUSED"},"#,
                r#"{"address":"b@there.example","delay_reason":"REFUSED"},"#,
                r#"{"address":"c@there.example","delay_reason":"over quota\\x1b[0m"}],"#,
                r#""recipients_total":7,"attempts":3,"next_attempt":1795359302}"#
            ),
        ];
        for (i, line) in lines.iter().enumerate() {
            assert_eq!(*line, expected[i].replace(&format!("ID{i}"), &ids[i]).replace("REFUSED", refused));
        }
    }
}
