//! Ironpost's SMTP server: speaks SMTP to clients and writes each accepted message as one queue file.
//!
//! | module | does |
//! | --- | --- |
//! | [`session`] | the protocol, without I/O |

pub mod session;
