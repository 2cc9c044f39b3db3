//! Ironpost end to end: the real binaries with real clients, real servers, and scripted ones for bad days.
//!
//! One module a subject. `tests/tools.sh` installs what they need. A test that needs root says so in one line
//! and does nothing when it is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod attack;
mod chaos;
mod config;
mod content;
mod counterparts;
mod crash;
mod descriptors;
mod dialogues;
mod disk;
mod dsn;
mod faults;
mod first_mail;
mod known_holes;
mod lab;
mod latency;
mod load;
mod login_token;
mod pair;
mod privileges;
mod protocol;
mod proxy;
mod queue;
mod relay;
mod relay_host;
mod relay_token;
mod reload;
mod replies;
mod report;
mod restrictions;
mod retry;
mod routes;
mod rules;
mod scheduling;
mod status;
mod submission;
mod submitters;
mod tls_clients;
mod tls_in;
mod tls_names;
mod tls_out;
mod users;
