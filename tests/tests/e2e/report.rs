//! Bounces as a program reads them: parsed by Python's e-mail package, and given as JSON.

use ironpost_tests::process::run;
use ironpost_tests::tools::python;
use serde_json::Value;

const SCRIPT: &str = "
import email, email.policy, json, sys
m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
parts = list(m.iter_parts()) if m.is_multipart() else []
status = [p for p in parts if p.get_content_type() == 'message/delivery-status']
groups = [{k.lower(): str(v) for k, v in g.items()} for g in status[0].get_payload()] if status else []
returned = [p for p in parts if p.get_content_type() in ('message/rfc822', 'text/rfc822-headers')]
original = {}
if returned:
    inner = returned[0].get_payload()
    inner = inner[0] if isinstance(inner, list) else email.message_from_string(inner)
    original = {k.lower(): str(v) for k, v in inner.items()}
print(json.dumps({
    'type': m.get_content_type(), 'report': m.get_param('report-type'), 'from': str(m['from']), 'to': str(m['to']),
    'subject': str(m['subject']), 'auto': str(m['auto-submitted']), 'parts': [p.get_content_type() for p in parts],
    'text': parts[0].get_payload(decode=True).decode() if parts else '',
    'message': groups[0] if groups else {}, 'recipients': groups[1:], 'original': original,
    'defects': [repr(d) for p in m.walk() for d in p.defects]}))
";

/// The parts of a message that should be a delivery status notification.
pub fn parse(message: &[u8]) -> Value {
    let mut command = python();
    command.args(["-c", SCRIPT]);
    serde_json::from_slice(&run(&mut command, message).ok().out).unwrap()
}

/// Asserts that a message is a well-formed report (RFC 3462, RFC 3464) about exactly these recipients, each
/// with the status given, and gives it for more.
#[track_caller]
pub fn assert_failed(message: &[u8], recipients: &[(&str, &str)]) -> Value {
    let report = parse(message);
    assert_eq!(report["type"], "multipart/report", "{report:#}");
    assert_eq!(report["report"], "delivery-status");
    assert_eq!(report["defects"], serde_json::json!([]));
    assert_eq!(report["parts"][0], "text/plain");
    assert_eq!(report["parts"][1], "message/delivery-status");
    let returned = report["parts"][2].as_str().unwrap_or_default();
    assert!(["message/rfc822", "text/rfc822-headers"].contains(&returned), "{report:#}");
    assert_eq!(report["auto"], "auto-replied");
    let reporting = report["message"]["reporting-mta"].as_str().unwrap_or_default();
    assert_eq!(reporting.replace(' ', ""), "dns;mail.example.test");
    let mut found: Vec<(String, String)> = Vec::new();
    for group in report["recipients"].as_array().unwrap() {
        assert_eq!(group["action"], "failed", "{report:#}");
        let address = group["final-recipient"].as_str().unwrap_or_default().replace(' ', "");
        let address = address.strip_prefix("rfc822;").unwrap_or_else(|| panic!("{report:#}")).to_owned();
        assert!(report["text"].as_str().unwrap_or_default().contains(&address), "{report:#}");
        found.push((address, group["status"].as_str().unwrap_or_default().to_owned()));
    }
    found.sort();
    let mut expected: Vec<_> = recipients.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    expected.sort();
    assert_eq!(found, expected, "{report:#}");
    report
}
