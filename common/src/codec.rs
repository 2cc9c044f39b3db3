//! The one place where values become bytes and back: bincode, little-endian, fixed-width integers, through serde.
//!
//! Every decode has a hard limit and accepts no trailing bytes; hostile input gives an error, never a panic and never an
//! allocation beyond the limit. On disk the bytes stand behind a magic, a length and a checksum (see `spool`).
//! Types that pass through here are append-only: new enum variants and new formats go to the end; no `usize`,
//! no `HashMap`, no `skip_serializing_if`, `flatten` or `untagged`.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a value could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Not the bytes of such a value, or over the limit.
    #[error("cannot decode: {0}")]
    Decode(#[from] bincode::error::DecodeError),
    /// A value that has no such form (over the limit, for instance).
    #[error("cannot encode: {0}")]
    Encode(#[from] bincode::error::EncodeError),
    /// Bytes are left over behind the value.
    #[error("{0} bytes left over behind the value")]
    Trailing(usize),
    /// More bytes than the limit.
    #[error("{0} bytes are more than the limit")]
    TooLong(usize),
}

const STEP_1: usize = 8 * 1024;
const STEP_2: usize = 256 * 1024;

fn config<const LIMIT: usize>() -> Configuration<LittleEndian, Fixint, Limit<LIMIT>> {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<LIMIT>()
}

/// The bytes of `value`.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    Ok(bincode::serde::encode_to_vec(
        value,
        bincode::config::standard().with_little_endian().with_fixed_int_encoding(),
    )?)
}

/// The value that these bytes, all of them and at most `LIMIT`, stand for.
pub fn decode<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > LIMIT {
        return Err(CodecError::TooLong(bytes.len()));
    }
    // Room for a text is made when its length is read. So that a few octets that claim to be a long one cannot have room for all of
    // LIMIT, the limit is the next of a few steps above the length: no value needs more octets than it has.
    let (value, used) = match bytes.len() {
        0..STEP_1 => bincode::serde::decode_from_slice(bytes, config::<STEP_1>()),
        STEP_1..STEP_2 => bincode::serde::decode_from_slice(bytes, config::<STEP_2>()),
        _ => bincode::serde::decode_from_slice(bytes, config::<LIMIT>()),
    }?;
    match bytes.len() - used {
        0 => Ok(value),
        rest => Err(CodecError::Trailing(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_hostile_bytes() {
        let value = (7u32, "text".to_string(), vec![1u8, 2]);
        let bytes = encode(&value).unwrap();
        assert_eq!(decode::<(u32, String, Vec<u8>), 64>(&bytes).unwrap(), value);
        assert!(matches!(decode::<(u32, String, Vec<u8>), 8>(&bytes), Err(CodecError::TooLong(_))));
        let mut long = bytes.clone();
        long.push(0);
        assert!(matches!(decode::<(u32, String, Vec<u8>), 64>(&long), Err(CodecError::Trailing(1))));
        for cut in 0..bytes.len() {
            assert!(decode::<(u32, String, Vec<u8>), 64>(&bytes[..cut]).is_err());
        }
        // Nor does a small value need the limit's room: 16 MiB claimed by 12 octets are refused for their length.
        let mut claims = 7u32.to_le_bytes().to_vec();
        claims.extend((16u64 << 20).to_le_bytes());
        let error = decode::<(u32, String, Vec<u8>), { 32 << 20 }>(&claims).unwrap_err();
        assert!(matches!(error, CodecError::Decode(bincode::error::DecodeError::LimitExceeded)), "{error:?}");
        // A length of 2^60 must fail at once, not allocate.
        let mut hostile = 7u32.to_le_bytes().to_vec();
        hostile.extend((1u64 << 60).to_le_bytes());
        assert!(decode::<(u32, String, Vec<u8>), 64>(&hostile).is_err());
    }
}
