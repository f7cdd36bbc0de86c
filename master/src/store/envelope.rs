//! What the stored bytes look like: one version byte, the cause of the write (trace id as 16 bytes and
//! message id as 8, big-endian), then the object's JSON.
//!
//! A deletion is recorded as an envelope without an object.

use actors::TraceContext;
use bytes::Bytes;

use super::StoreError;

/// The version that this program writes.
const VERSION: u8 = 1;

/// Bytes before the object.
pub const HEADER_BYTES: usize = 1 + 16 + 8;

/// Wraps an object (or nothing, for a deletion).
pub fn encode(trace: TraceContext, object: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + object.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&trace.trace.to_be_bytes());
    bytes.extend_from_slice(&trace.message.to_be_bytes());
    bytes.extend_from_slice(object);
    bytes
}

/// Reads an envelope's cause and object. The object is checked only as far as telling it from rubbish.
pub fn decode(key: &str, bytes: Bytes) -> Result<(TraceContext, Bytes), StoreError> {
    let corrupt = |why: &str| StoreError::Corrupt { key: key.to_owned(), why: why.to_owned() };
    let trace = decode_trace(&bytes).map_err(|why| corrupt(&why))?;
    match bytes.get(HEADER_BYTES) {
        Some(b'{') => Ok((trace, bytes.slice(HEADER_BYTES..))),
        Some(_) => Err(corrupt("the envelope does not hold a JSON object")),
        None => Err(corrupt("the envelope is empty")),
    }
}

/// Reads only the cause; the object may be missing.
pub fn decode_trace(bytes: &[u8]) -> Result<TraceContext, String> {
    match bytes.first() {
        None => return Err("it is empty".to_owned()),
        Some(&VERSION) => {}
        Some(version) => {
            return Err(format!("envelope version {version} is not known (this program reads {VERSION})"));
        }
    }
    let trace = bytes.get(1..17).and_then(|b| b.try_into().ok()).map(u128::from_be_bytes);
    let message = bytes.get(17..HEADER_BYTES).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
    match (trace, message) {
        (Some(trace), Some(message)) => Ok(TraceContext { trace, message }),
        _ => Err(format!("the envelope is cut off after {} bytes", bytes.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_never_change() {
        let trace = TraceContext { trace: 0x0102, message: 0x0304 };
        let mut golden = vec![1u8];
        golden.extend([0; 14]);
        golden.extend([1, 2]);
        golden.extend([0; 6]);
        golden.extend([3, 4]);
        golden.extend(b"{}");
        assert_eq!(encode(trace, b"{}"), golden);
        assert_eq!(decode("k", golden.into()).unwrap(), (trace, Bytes::from_static(b"{}")));
    }

    #[test]
    fn rubbish_is_named_by_its_key() {
        let good = encode(TraceContext::default(), b"{}");
        let mut newer = good.clone();
        newer[0] = 2;
        for bad in [
            &b""[..],
            b"{\"kind\":\"Pod\"}",
            b"k8s\0\n\x0c\n\x02v1\x12\x06Secret",
            &good[..10],
            &good[..25],
            &newer,
        ] {
            match decode("/registry/core/pods/a/b", Bytes::copy_from_slice(bad)) {
                Err(StoreError::Corrupt { key, .. }) => assert_eq!(key, "/registry/core/pods/a/b"),
                other => panic!("{bad:?}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(trace: u128, message: u64, body in "\\{[ -~]{0,40}\\}") {
            let cause = TraceContext { trace, message };
            let bytes = Bytes::from(encode(cause, body.as_bytes()));
            prop_assert_eq!(decode("k", bytes).unwrap(), (cause, Bytes::from(body)));
        }

        #[test]
        fn decode_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode("k", bytes.into());
        }
    }
}
