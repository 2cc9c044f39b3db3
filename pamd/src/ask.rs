//! The process that asks PAM one question, which comes on its standard input, says what PAM says, and ends.

use auth::pam::frame::{Question, Verdict};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use pam_client2::{Context, ConversationHandler, ErrorCode, Flag};
use std::ffi::{CStr, CString};
use std::io::{self, Read, Write};
use std::process::ExitCode;

/// Longest question, in octets.
const MAX: u64 = 4096;

/// Asks the service.
pub fn run(service: &str) -> ExitCode {
    let _ = set_pdeathsig(Signal::SIGKILL);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let mut octets = zeroize::Zeroizing::new(Vec::with_capacity(4096));
    let read = io::stdin().take(MAX).read_to_end(&mut octets);
    let Some(question) = read.ok().and_then(|_| Question::decode(&octets)) else { return ExitCode::from(65) };
    let verdict = ask(service, &question);
    match io::stdout().write_all(&verdict.encode(question.id)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(74),
    }
}

fn ask(service: &str, question: &Question) -> Verdict {
    match conversation(service, question) {
        Ok(name) if auth::name::check(&name).is_ok() => Verdict::Yes(name),
        Ok(_) => Verdict::Unknown("PAM gives a name that cannot be one".into()),
        Err(error) => judge(error.code(), &error.to_string()),
    }
}

fn conversation(service: &str, question: &Question) -> Result<String, pam_client2::Error> {
    let Ok(password) = CString::new(question.password.to_vec()) else {
        return Ok(String::new());
    };
    let answers = Answers { password, name: question.name.clone() };
    let mut context = Context::new(service, Some(&question.name), answers)?;
    context.set_rhost(Some(&question.client))?;
    context.authenticate(Flag::SILENT | Flag::DISALLOW_NULL_AUTHTOK)?;
    // Right, but locked, expired, or not at this hour.
    context.acct_mgmt(Flag::SILENT | Flag::DISALLOW_NULL_AUTHTOK)?;
    context.user()
}

/// What is the user's fault, and what is this machine's.
fn judge(code: ErrorCode, text: &str) -> Verdict {
    match code {
        ErrorCode::AUTH_ERR
        | ErrorCode::USER_UNKNOWN
        | ErrorCode::MAXTRIES
        | ErrorCode::CRED_INSUFFICIENT
        | ErrorCode::PERM_DENIED
        | ErrorCode::ACCT_EXPIRED
        | ErrorCode::NEW_AUTHTOK_REQD
        | ErrorCode::AUTHTOK_EXPIRED
        | ErrorCode::CRED_EXPIRED => Verdict::No(text.to_owned()),
        _ => Verdict::Unknown(text.to_owned()),
    }
}

/// The password for every question that is not shown, the name for the others.
struct Answers {
    password: CString,
    name: String,
}

impl ConversationHandler for Answers {
    fn prompt_echo_on(&mut self, _: &CStr) -> Result<CString, ErrorCode> {
        CString::new(self.name.as_str()).map_err(|_| ErrorCode::CONV_ERR)
    }

    fn prompt_echo_off(&mut self, _: &CStr) -> Result<CString, ErrorCode> {
        Ok(self.password.clone())
    }

    fn text_info(&mut self, _: &CStr) {}

    fn error_msg(&mut self, _: &CStr) {}
}
