//! Bodies as bytes: JSON, YAML and protobuf.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::patch::JsonPatch;
use protocol::schema::{self, protobuf, syntax};

fuzz_target!(|bytes: &[u8]| {
    let kinds: Vec<_> = schema::all().iter().filter(|d| d.gvk.is_some()).collect();
    let Some((first, rest)) = bytes.split_first() else { return };
    let _ = schema::decode(kinds[usize::from(*first) % kinds.len()], rest);
    let _ = syntax::error(bytes);
    let _ = syntax::tolerated(bytes.to_vec().into());
    let _ = JsonPatch::parse(bytes);
    let _ = protobuf::to_json(bytes);
    let _ = protobuf::to_json(&[b"k8s\0".as_slice(), bytes].concat());
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = master::yaml::read(text);
    }
});
