//! Version 3 documents in the forms that clients ask for.

use std::sync::OnceLock;

use serde_json::Value;

use super::{JSON, Packed, proto_v3};
use crate::front::negotiate;

const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
const V3_PROTOBUF_AT: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";

/// A version 3 document; its other form is made when it is first asked for.
#[derive(Debug)]
pub struct V3Document {
    json: Packed,
    proto: OnceLock<Packed>,
}

impl V3Document {
    /// Of the document's JSON.
    pub fn of(json: &[u8]) -> Self {
        V3Document { json: Packed::of(json), proto: OnceLock::new() }
    }

    /// The address of the document of a name. Clients keep it as long as its address stays the same.
    pub fn url(&self, name: &str) -> String {
        format!("/openapi/v3/{name}?hash={}", self.json.digest())
    }

    /// The form that a client likes best; `None` where it likes none.
    pub(super) fn in_form(&self, accept: &str) -> Option<(Packed, &'static str)> {
        let proto = || {
            // What another server sent need not be JSON; nothing is made of that.
            let document = serde_json::from_slice(&self.json.plain()).unwrap_or(Value::Null);
            self.json.as_form(&proto_v3::document(&document))
        };
        Some(match v3_form(accept)? {
            JSON => (self.json.clone(), JSON),
            media => (self.proto.get_or_init(proto).clone(), media),
        })
    }
}

/// The media type of the best form for an Accept header.
fn v3_form(accept: &str) -> Option<&'static str> {
    negotiate::preferred(accept, |range| match range {
        "*/*" | "application/*" | JSON => Some(JSON),
        V3_PROTOBUF | V3_PROTOBUF_AT => Some(V3_PROTOBUF),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_the_form_that_is_liked_best() {
        let document = V3Document::of(br#"{"openapi":"3.0.0"}"#);
        for (accept, media) in [
            ("", Some(JSON)),
            ("*/*", Some(JSON)),
            (V3_PROTOBUF_AT, Some(V3_PROTOBUF)),
            (V3_PROTOBUF, Some(V3_PROTOBUF)),
            (
                "application/json;q=0.5, application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
                Some(V3_PROTOBUF),
            ),
            ("application/com.github.proto-openapi.spec.v3@v1.0+protobuf;q=0.1,application/json", Some(JSON)),
            ("application/com.github.proto-openapi.spec.v3@v1.1+protobuf", None),
            ("application/yaml", None),
        ] {
            let found = document.in_form(accept);
            assert_eq!(found.as_ref().map(|(_, media)| *media), media, "{accept}");
            let Some((body, media)) = found else { continue };
            // Its tag is the same in every form.
            assert_eq!(body.digest(), document.json.digest(), "{accept}");
            let written: &[u8] = if media == JSON { br#"{"openapi":"3.0.0"}"# } else { b"\x0a\x053.0.0" };
            assert_eq!(body.plain(), written, "{accept}");
        }
    }
}
