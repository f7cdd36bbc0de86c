//! The OpenAPI v2 document in the protobuf form of gnostic, which older clients ask for.
//!
//! Only what our documents contain is written. Field numbers are those of gnostic's `OpenAPIv2.proto`.

use serde_json::{Map, Value};

/// Bytes of one protobuf message, whose fields are left out where they are zero.
#[derive(Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// The bytes.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Bytes or text, also if there are none.
    pub(super) fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// Text.
    pub(super) fn text(&mut self, field: u64, text: &str) {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
    }

    /// A message, also if it is empty.
    pub(super) fn message(&mut self, field: u64, message: Message) {
        self.bytes(field, &message.0);
    }

    /// A boolean.
    pub(super) fn boolean(&mut self, field: u64, value: bool) {
        if value {
            self.truth(field, value);
        }
    }

    /// A boolean, also if it is false.
    pub(super) fn truth(&mut self, field: u64, value: bool) {
        self.varint(field << 3);
        self.varint(u64::from(value));
    }

    /// A whole number.
    pub(super) fn integer(&mut self, field: u64, value: i64) {
        if value != 0 {
            self.varint(field << 3);
            // Negative numbers are ten bytes.
            self.varint(value as u64);
        }
    }

    /// A number, also if it is zero.
    pub(super) fn double(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | 1);
        self.0.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

/// The whole document.
pub fn document(document: &Value) -> Vec<u8> {
    let mut made = Message::default();
    made.text(1, text(document, "swagger"));
    let mut info = Message::default();
    info.text(1, text(&document["info"], "title"));
    info.text(2, text(&document["info"], "version"));
    made.message(2, info);
    let mut paths = Message::default();
    for (name, item) in object(&document["paths"]) {
        paths.message(2, named(name, path_item(item)));
    }
    made.message(8, paths);
    let mut definitions = Message::default();
    for (name, item) in object(&document["definitions"]) {
        definitions.message(1, named(name, schema(item)));
    }
    made.message(9, definitions);
    for requirement in list(document, "security") {
        let mut all = Message::default();
        for (name, scopes) in object(requirement) {
            let mut texts = Message::default();
            scopes
                .as_array()
                .into_iter()
                .flatten()
                .for_each(|s| texts.text(1, s.as_str().unwrap_or_default()));
            all.message(1, named(name, texts));
        }
        made.message(12, all);
    }
    if document["securityDefinitions"].is_object() {
        let mut all = Message::default();
        for (name, scheme) in object(&document["securityDefinitions"]) {
            let mut key = Message::default();
            for (field, of) in [(1, "type"), (2, "name"), (3, "in"), (4, "description")] {
                key.text(field, text(scheme, of));
            }
            all.message(1, named(name, one_of(2, key)));
        }
        made.message(13, all);
    }
    made.0
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// A name and a message: how maps are written.
fn named(name: &str, value: Message) -> Message {
    let mut made = Message::default();
    made.text(1, name);
    made.message(2, value);
    made
}

/// Anything, as YAML text (of which JSON is a part).
fn any(value: &Value) -> Message {
    let mut made = Message::default();
    made.text(2, &value.to_string());
    made
}

fn extensions(value: &Value, field: u64, into: &mut Message) {
    for (name, extension) in object(value).filter(|(n, _)| n.starts_with("x-")) {
        into.message(field, named(name, any(extension)));
    }
}

fn path_item(item: &Value) -> Message {
    let mut made = Message::default();
    let methods =
        [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (6, "options"), (7, "head"), (8, "patch")];
    for (field, method) in methods {
        if item[method].is_object() {
            made.message(field, operation(&item[method]));
        }
    }
    for parameter in list(item, "parameters") {
        made.message(9, parameters_item(parameter));
    }
    made
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn operation(operation: &Value) -> Message {
    let mut made = Message::default();
    let mut texts = |field: u64, name: &str| {
        list(operation, name).for_each(|one| made.text(field, one.as_str().unwrap_or_default()));
    };
    texts(1, "tags");
    texts(6, "produces");
    texts(7, "consumes");
    texts(10, "schemes");
    made.text(3, text(operation, "description"));
    made.text(5, text(operation, "operationId"));
    for parameter in list(operation, "parameters") {
        made.message(8, parameters_item(parameter));
    }
    let mut responses = Message::default();
    for (code, response) in object(&operation["responses"]) {
        let mut plain = Message::default();
        plain.text(1, text(response, "description"));
        if response["schema"].is_object() {
            plain.message(2, one_of(1, schema(&response["schema"])));
        }
        responses.message(1, named(code, one_of(1, plain)));
    }
    made.message(9, responses);
    extensions(operation, 13, &mut made);
    made
}

/// A message that is one of several things.
fn one_of(field: u64, inner: Message) -> Message {
    let mut made = Message::default();
    made.message(field, inner);
    made
}

fn parameters_item(parameter: &Value) -> Message {
    let required = parameter["required"] == Value::Bool(true);
    let place = text(parameter, "in");
    let mut made = Message::default();
    if place == "body" {
        made.text(1, text(parameter, "description"));
        made.text(2, text(parameter, "name"));
        made.text(3, place);
        made.boolean(4, required);
        made.message(5, schema(&parameter["schema"]));
        return one_of(1, one_of(1, made));
    }
    // NonBodyParameter > QueryParameterSubSchema or PathParameterSubSchema, which has one field less.
    let (kind, less) = if place == "path" { (4, 1) } else { (3, 0) };
    made.boolean(1, required);
    made.text(2, place);
    made.text(3, text(parameter, "description"));
    made.text(4, text(parameter, "name"));
    made.text(6 - less, text(parameter, "type"));
    made.boolean(20 - less, parameter["uniqueItems"] == Value::Bool(true));
    one_of(1, one_of(2, one_of(kind, made)))
}

fn schema(value: &Value) -> Message {
    let mut made = Message::default();
    made.text(1, text(value, "$ref"));
    made.text(2, text(value, "format"));
    made.text(4, text(value, "description"));
    if let Some(default) = value.get("default") {
        made.message(5, any(default));
    }
    for required in value["required"].as_array().into_iter().flatten() {
        made.text(19, required.as_str().unwrap_or_default());
    }
    for allowed in value["enum"].as_array().into_iter().flatten() {
        made.message(20, any(allowed));
    }
    if value["additionalProperties"].is_object() {
        let mut item = Message::default();
        item.message(1, schema(&value["additionalProperties"]));
        made.message(21, item);
    }
    if let Some(kind) = value["type"].as_str() {
        let mut item = Message::default();
        item.text(1, kind);
        made.message(22, item);
    }
    if value["items"].is_object() {
        let mut item = Message::default();
        item.message(1, schema(&value["items"]));
        made.message(23, item);
    }
    if value["properties"].is_object() {
        let mut properties = Message::default();
        for (name, property) in object(&value["properties"]) {
            properties.message(1, named(name, schema(property)));
        }
        made.message(25, properties);
    }
    extensions(value, 31, &mut made);
    made
}
