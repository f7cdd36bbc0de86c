//! One operation of a path, and how documents write it.

use serde_json::{Map, Value, json};

use super::form::Form;
use super::parameters::Parameter;

/// What objects are written and read in.
pub const OBJECTS: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// What lists and watches are read in.
pub const STREAMS: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
/// Whatever there is.
pub const ANY: &[&str] = &["*/*"];

/// What a body is.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Text.
    Text,
    /// What a schema of this name says.
    Named(String),
}

impl Content {
    /// One of the meta package's.
    pub fn meta(name: &str) -> Self {
        Content::Named(format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}"))
    }

    fn schema(&self, form: Form) -> Value {
        match self {
            Content::Text => json!({"type": "string"}),
            Content::Named(name) => form.reference(name),
        }
    }
}

/// What is sent with a request.
pub struct Body {
    pub content: Content,
    pub required: bool,
}

/// An operation.
pub struct Operation {
    /// What the path is about, for clients that are generated.
    pub tag: String,
    /// A name that no other operation has.
    pub id: String,
    pub said: String,
    /// The parameters but for those that all of the path's operations have.
    pub parameters: Vec<Parameter>,
    pub body: Option<Body>,
    pub consumes: &'static [&'static str],
    pub produces: &'static [&'static str],
    /// Status codes of good answers.
    pub codes: &'static [u16],
    pub answer: Content,
    /// The action, and group, version and kind of what it is about.
    pub about: Option<(&'static str, [String; 3])>,
}

impl Operation {
    fn write(&self, form: Form) -> Value {
        let mut made = json!({
            "tags": [self.tag], "description": self.said, "operationId": self.id,
            "responses": self.responses(form),
        });
        let mut parameters: Vec<Value> = self.parameters.iter().map(|p| p.write(form)).collect();
        if let Some(body) = &self.body {
            let schema = body.content.schema(form);
            let mut sent = match form {
                Form::V2 => json!({"name": "body", "in": "body", "schema": schema}),
                Form::V3 => json!({"content": content(self.consumes, &schema)}),
            };
            if body.required {
                sent["required"] = true.into();
            }
            match form {
                Form::V2 => parameters.insert(0, sent),
                Form::V3 => made["requestBody"] = sent,
            }
        }
        if !parameters.is_empty() {
            made["parameters"] = Value::Array(parameters);
        }
        if form == Form::V2 {
            for (field, types) in [("consumes", self.consumes), ("produces", self.produces)] {
                if !types.is_empty() {
                    made[field] = json!(types);
                }
            }
            made["schemes"] = json!(["https"]);
        }
        if let Some((action, [group, version, kind])) = &self.about {
            made["x-kubernetes-action"] = (*action).into();
            made["x-kubernetes-group-version-kind"] =
                json!({"group": group, "version": version, "kind": kind});
        }
        made
    }

    fn responses(&self, form: Form) -> Value {
        let good = self.codes.iter().map(|code| {
            let said = match code {
                201 => "Created",
                202 => "Accepted",
                _ => "OK",
            };
            let schema = self.answer.schema(form);
            let answer = match form {
                Form::V2 => json!({"description": said, "schema": schema}),
                Form::V3 => json!({"description": said, "content": content(self.produces, &schema)}),
            };
            (code.to_string(), answer)
        });
        let refused = [("401".to_owned(), json!({"description": "Unauthorized"}))];
        Value::Object(good.chain(refused).collect())
    }
}

fn content(types: &[&str], schema: &Value) -> Value {
    Value::Object(types.iter().map(|of| ((*of).to_owned(), json!({"schema": schema}))).collect())
}

/// A path: what all of its operations have is said once.
pub fn path(mut operations: Vec<(&'static str, Operation)>, form: Form) -> Value {
    let mut common = match operations.first() {
        Some((_, first)) => first.parameters.clone(),
        None => Vec::new(),
    };
    common.retain(|one| operations.iter().all(|(_, operation)| operation.parameters.contains(one)));
    common.sort();
    for (_, operation) in &mut operations {
        operation.parameters.retain(|one| !common.contains(one));
        operation.parameters.sort();
    }
    let mut made: Map<String, Value> =
        operations.iter().map(|(method, operation)| ((*method).to_owned(), operation.write(form))).collect();
    if !common.is_empty() {
        made.insert("parameters".to_owned(), common.iter().map(|p| p.write(form)).collect());
    }
    Value::Object(made)
}

/// A name as identifiers have it: what is no letter or digit begins a word.
pub fn camel(name: &str, mut begins: bool) -> String {
    let mut made = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => {
                made.push(if begins { c.to_ascii_uppercase() } else { c });
                begins = false;
            }
            _ => begins = true,
        }
    }
    made
}
