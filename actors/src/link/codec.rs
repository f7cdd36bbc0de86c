//! The only place that knows bincode.
//!
//! bincode is unmaintained upstream (RUSTSEC-2025-0141: no vulnerability, no further releases). It is pinned
//! to 2.x and used through these two functions, so that another codec can take its place.

use serde::{Serialize, de::DeserializeOwned};

/// The longest encoded value, in bytes: a 3 MiB request with room for its envelope.
pub const ENCODED_BYTES_MAX: usize = 8 << 20;

/// A value could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Longer than [`ENCODED_BYTES_MAX`].
    #[error("{0} bytes are more than the {ENCODED_BYTES_MAX} that a frame may have")]
    TooLong(usize),
    /// Not of the expected form.
    #[error("malformed: {0}")]
    Malformed(String),
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<ENCODED_BYTES_MAX>()
}

/// Encodes a value. Fixed for a given type: golden-bytes tests hold it.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes =
        bincode::serde::encode_to_vec(value, config()).map_err(|e| CodecError::Malformed(e.to_string()))?;
    if bytes.len() > ENCODED_BYTES_MAX { Err(CodecError::TooLong(bytes.len())) } else { Ok(bytes) }
}

/// Decodes a value; bytes left over are an error.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > ENCODED_BYTES_MAX {
        return Err(CodecError::TooLong(bytes.len()));
    }
    let (value, used) = bincode::serde::decode_from_slice(bytes, config())
        .map_err(|e| CodecError::Malformed(e.to_string()))?;
    if used != bytes.len() {
        return Err(CodecError::Malformed(format!("{} bytes left over", bytes.len() - used)));
    }
    Ok(value)
}
