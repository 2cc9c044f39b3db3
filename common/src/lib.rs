//! What every program of Ironpost shares, and nothing that only one needs.
//!
//! | module | holds |
//! | --- | --- |
//! | [`address`], [`destination`], [`status`], [`time`], [`text`] | the words of mail, parsed once into types |
//! | [`codec`], [`packet`] | values as bytes; frames between daemons |

pub mod address;
pub mod codec;
pub mod destination;
pub mod packet;
pub mod status;
pub mod text;
pub mod time;
