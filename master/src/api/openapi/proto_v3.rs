//! OpenAPI version 3 documents in the protobuf form of gnostic, which Go clients may ask for.
//!
//! Driven by a table of gnostic's messages, so that the documents of other servers come through whole as well.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::proto::Message;
use crate::yaml;

/// gnostic's messages: a name, then the fields as `NAME=NUMBER TYPE` without a space. `x` is where extensions are,
/// `*` where the entries under all other names are.
///
/// Types: `s` text, `b` boolean, `i` integer, `n` number, `a` anything as YAML, `d` a default, `l` a list of texts;
/// `@X` a message, `|X` a message or a reference to one, `+X` the same or a boolean, `(X` a list of the same that JSON
/// does not show, `[` in front of a type many of it.
const TABLE: &str = "\
Document x=9 openapi=1s info=2@Info servers=3[@Server paths=4@Paths components=5@Components \
 security=6[@SecurityRequirement tags=7[@Tag externalDocs=8@ExternalDocs
Info x=7 title=1s description=2s termsOfService=3s contact=4@Contact license=5@License version=6s summary=8s
Contact x=4 name=1s url=2s email=3s
License x=3 name=1s url=2s
Server x=4 url=1s description=2s variables=3@ServerVariables
ServerVariables *=1@ServerVariable
ServerVariable x=4 enum=1[s default=2s description=3s
SecurityRequirement *=1l
Tag x=4 name=1s description=2s externalDocs=3@ExternalDocs
ExternalDocs x=3 description=1s url=2s
Paths x=2 *=1@PathItem
PathItem x=14 $ref=1s summary=2s description=3s get=4@Operation put=5@Operation post=6@Operation \
 delete=7@Operation options=8@Operation head=9@Operation patch=10@Operation trace=11@Operation \
 servers=12[@Server parameters=13[|Parameter
Operation x=13 tags=1[s summary=2s description=3s externalDocs=4@ExternalDocs operationId=5s \
 parameters=6[|Parameter requestBody=7|RequestBody responses=8@Responses callbacks=9@Callbacks deprecated=10b \
 security=11[@SecurityRequirement servers=12[@Server
Parameter x=14 name=1s in=2s description=3s required=4b deprecated=5b allowEmptyValue=6b style=7s explode=8b \
 allowReserved=9b schema=10|Schema example=11a examples=12@Examples content=13@MediaTypes
RequestBody x=4 description=1s content=2@MediaTypes required=3b
Responses x=3 default=1|Response *=2|Response
Response x=5 description=1s headers=2@Headers content=3@MediaTypes links=4@Links
Header x=12 description=1s required=2b deprecated=3b allowEmptyValue=4b style=5s explode=6b allowReserved=7b \
 schema=8|Schema example=9a examples=10@Examples content=11@MediaTypes
MediaTypes *=1@MediaType
MediaType x=5 schema=1|Schema example=2a examples=3@Examples encoding=4@Encodings
Encodings *=1@Encoding
Encoding x=6 contentType=1s headers=2@Headers style=3s explode=4b allowReserved=5b
Example x=5 summary=1s description=2s value=3a externalValue=4s
Link x=7 operationRef=1s operationId=2s parameters=3@AnyOrExpression requestBody=4@AnyOrExpression \
 description=5s server=6@Server
Callback x=2 *=1@PathItem
Components x=10 schemas=1@Schemas responses=2@ResponsesByName parameters=3@Parameters examples=4@Examples \
 requestBodies=5@RequestBodies headers=6@Headers securitySchemes=7@SecuritySchemes links=8@Links callbacks=9@Callbacks
Schemas *=1|Schema
ResponsesByName *=1|Response
Parameters *=1|Parameter
Examples *=1|Example
RequestBodies *=1|RequestBody
Headers *=1|Header
SecuritySchemes *=1|SecurityScheme
Links *=1|Link
Callbacks *=1|Callback
SecurityScheme x=9 type=1s description=2s name=3s in=4s scheme=5s bearerFormat=6s flows=7@OauthFlows \
 openIdConnectUrl=8s
OauthFlows x=5 implicit=1@OauthFlow password=2@OauthFlow clientCredentials=3@OauthFlow authorizationCode=4@OauthFlow
OauthFlow x=5 authorizationUrl=1s tokenUrl=2s refreshUrl=3s scopes=4@Strings
Strings *=1s
Reference $ref=1s summary=2s description=3s
Schema x=36 nullable=1b discriminator=2@Discriminator readOnly=3b writeOnly=4b xml=5@Xml \
 externalDocs=6@ExternalDocs example=7a deprecated=8b title=9s multipleOf=10n maximum=11n exclusiveMaximum=12b \
 minimum=13n exclusiveMinimum=14b maxLength=15i minLength=16i pattern=17s maxItems=18i minItems=19i uniqueItems=20b \
 maxProperties=21i minProperties=22i required=23[s enum=24[a type=25s allOf=26[|Schema oneOf=27[|Schema \
 anyOf=28[|Schema not=29@Schema items=30(Schema properties=31@Schemas additionalProperties=32+Schema default=33d \
 description=34s format=35s
Discriminator x=3 propertyName=1s mapping=2@Strings
Xml x=6 name=1s namespace=2s prefix=3s attribute=4b wrapped=5b
";

/// The name under which fields of all other names stand in the table, and that of extensions.
const OTHERS: &str = "*";
const EXTENSIONS: &str = "x";

struct Field {
    name: &'static str,
    number: u64,
    ty: &'static str,
}

/// The fields of each message, by number.
static MESSAGES: LazyLock<HashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let message = |line: &'static str| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?;
        let mut fields: Vec<Field> = words.filter_map(field).collect();
        fields.sort_by_key(|field| field.number);
        Some((name, fields))
    };
    TABLE.lines().filter_map(message).collect()
});

fn field(word: &'static str) -> Option<Field> {
    let (name, rest) = word.split_once('=')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, ty) = rest.split_at(digits);
    Some(Field { name, number: number.parse().ok()?, ty })
}

/// The whole document.
pub fn document(document: &Value) -> Vec<u8> {
    message("Document", document).into_bytes()
}

fn message(name: &str, value: &Value) -> Message {
    let mut made = Message::default();
    if name == "AnyOrExpression" {
        put(&mut made, 1, "a", value, false);
        return made;
    }
    let (Some(fields), Some(given)) = (MESSAGES.get(name), value.as_object()) else { return made };
    for field in fields {
        match field.name {
            EXTENSIONS => entries(&mut made, field.number, "a", given, |name| name.starts_with("x-")),
            OTHERS => {
                let named = |name: &str| fields.iter().any(|field| field.name == name);
                let extended = fields.iter().any(|field| field.name == EXTENSIONS);
                let other = |name: &str| !(named(name) || extended && name.starts_with("x-"));
                entries(&mut made, field.number, field.ty, given, other);
            }
            name => {
                if let Some(value) = given.get(name) {
                    put(&mut made, field.number, field.ty, value, false);
                }
            }
        }
    }
    made
}

/// Writes entries of an object, each with its name.
fn entries(
    into: &mut Message,
    number: u64,
    ty: &str,
    given: &Map<String, Value>,
    wanted: impl Fn(&str) -> bool,
) {
    for (name, value) in given.iter().filter(|(name, _)| wanted(name)) {
        let mut entry = Message::default();
        entry.text(1, name);
        put(&mut entry, 2, ty, value, false);
        into.message(number, entry);
    }
}

/// Writes a value. What is zero is left out, but as one of `many` or of several things that may stand there.
fn put(into: &mut Message, number: u64, ty: &str, value: &Value, many: bool) {
    let (first, inner) = ty.split_at(1);
    match first {
        "[" => value.as_array().into_iter().flatten().for_each(|item| put(into, number, inner, item, true)),
        "s" => match value.as_str() {
            Some("") if !many => {}
            text => into.bytes(number, text.unwrap_or_default().as_bytes()),
        },
        "b" => into.boolean(number, value == true),
        "i" => into.integer(number, value.as_i64().unwrap_or(0)),
        "n" => match value.as_f64() {
            Some(n) if n != 0.0 => into.double(number, n),
            _ => {}
        },
        "a" => {
            let mut any = Message::default();
            any.text(2, &yaml::to_answer(value));
            into.message(number, any);
        }
        "d" => {
            let mut default = Message::default();
            match value {
                Value::Number(n) => default.double(1, n.as_f64().unwrap_or(0.0)),
                Value::Bool(b) => default.truth(2, *b),
                Value::String(text) => default.bytes(3, text.as_bytes()),
                _ => {}
            }
            into.message(number, default);
        }
        "l" => {
            let mut texts = Message::default();
            put(&mut texts, 1, "[s", value, false);
            into.message(number, texts);
        }
        "@" => into.message(number, message(inner, value)),
        "|" => into.message(number, or_reference(inner, value)),
        "+" => {
            let mut either = Message::default();
            match value {
                Value::Bool(allowed) => either.truth(2, *allowed),
                schema => either.message(1, or_reference(inner, schema)),
            }
            into.message(number, either);
        }
        "(" => {
            let mut list = Message::default();
            list.message(1, or_reference(inner, value));
            into.message(number, list);
        }
        _ => {}
    }
}

fn or_reference(name: &str, value: &Value) -> Message {
    let mut made = Message::default();
    if value.get("$ref").is_some() {
        made.message(2, message("Reference", value));
    } else {
        made.message(1, message(name, value));
    }
    made
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A length-delimited field of less than 128 bytes, of a number below 16.
    fn part(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat()
    }

    #[test]
    fn every_type_of_the_table_is_there() {
        for (name, fields) in &*MESSAGES {
            for field in fields {
                let inner = field.ty.trim_start_matches('[');
                let known = match inner.split_at(inner.len().min(1)) {
                    ("@" | "|" | "+" | "(", inner) => {
                        inner == "AnyOrExpression" || MESSAGES.contains_key(inner)
                    }
                    (scalar, "") => scalar.is_empty() == (field.name == EXTENSIONS),
                    _ => false,
                };
                assert!(known, "{name}.{} {}", field.name, field.ty);
            }
        }
    }

    #[test]
    fn a_document_is_written_message_by_message() {
        let written = document(&json!({
            "openapi": "3.0.0", "info": {"title": "T", "version": "1"},
            "paths": {"/a": {"get": {"operationId": "g", "responses": {"200": {"description": "OK"}}, "x-a": "b"}}},
        }));
        let info = [part(1, b"T"), part(6, b"1")].concat();
        let response = part(1, &part(1, b"OK"));
        let responses = part(2, &[part(1, b"200"), part(2, &response)].concat());
        let extension = [part(1, b"x-a"), part(2, &part(2, b"b\n"))].concat();
        let get = [part(5, b"g"), part(8, &responses), part(13, &extension)].concat();
        let path = part(1, &[part(1, b"/a"), part(2, &part(4, &get))].concat());
        assert_eq!(written, [part(1, b"3.0.0"), part(2, &info), part(4, &path)].concat());
    }

    #[test]
    fn a_schema_says_what_it_is_or_where_it_stands() {
        let of = |schema: Value| {
            let mut made = Message::default();
            put(&mut made, 1, "|Schema", &schema, false);
            made.into_bytes()
        };
        // The tag of a number above 15 takes two bytes.
        let long = |number: u8, bytes: &[u8]| {
            [&[(number & 15) << 3 | 2 | 0x80, number >> 4, bytes.len() as u8][..], bytes].concat()
        };
        let schema = |bytes: &[u8]| part(1, &part(1, bytes));
        for (given, wanted) in [
            (json!({}), schema(b"")),
            (json!({"$ref": "#/a"}), part(1, &part(2, &part(1, b"#/a")))),
            (json!({"type": "string"}), schema(&long(25, b"string"))),
            (json!({"default": {}}), schema(&long(33, b""))),
            (json!({"default": ""}), schema(&long(33, &part(3, b"")))),
            (json!({"additionalProperties": false}), schema(&long(32, &[2 << 3, 0]))),
            (json!({"items": {}}), schema(&long(30, &schema(b"")))),
            (json!({"uniqueItems": true, "minItems": 0}), schema(&[(20 & 15) << 3 | 0x80, 20 >> 4, 1])),
        ] {
            assert_eq!(of(given.clone()), wanted, "{given}");
        }
    }
}
