//! One request's record.

use std::sync::Arc;

use actors::time::now;
use bytes::Bytes;
use protocol::schema::decode::print_micro;
use protocol::{Caller, Target};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::annotations::Annotations;
use super::policy::{Applied, Level, Stage};
use crate::auth::reviews::user_info;

/// What is known of a request when it comes.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// On whose behalf.
    pub caller: Arc<Caller>,
    /// Who impersonates the caller.
    pub actor: Option<Arc<Caller>>,
    /// Verb; of paths that are no resource the method in lowercase.
    pub verb: String,
    /// About what; `None` for paths that are no resource.
    pub target: Option<Target>,
    /// Path and query.
    pub uri: String,
    /// Where from.
    pub source: String,
    /// The client's own name.
    pub user_agent: String,
}

/// A record in the making.
pub struct Draft {
    facts: Facts,
    pub(super) rule: Applied,
    id: String,
    received: String,
    /// Decision and reason of the authorizer.
    pub decision: Option<(bool, String)>,
    /// What admission says.
    pub annotations: Annotations,
    given: GivenMetadata,
    request: Option<Value>,
    response: Option<Value>,
}

/// What the object in a request says of itself, whether or not it is recorded. A name that the server is to make
/// is not known yet.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Given {
    metadata: GivenMetadata,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct GivenMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

impl Draft {
    pub(super) fn new(facts: Facts, rule: Applied) -> Self {
        let (id, received) = (uuid::Uuid::new_v4().to_string(), stamp());
        Draft {
            facts,
            rule,
            id,
            received,
            decision: None,
            annotations: Annotations::new(),
            given: GivenMetadata::default(),
            request: None,
            response: None,
        }
    }

    /// The id that the answer carries too.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Takes the request's object: what it says of itself, and, if that is to be recorded, the whole.
    pub fn request(&mut self, body: &Bytes) {
        if matches!(self.facts.verb.as_str(), "create" | "update") {
            self.given = serde_json::from_slice::<Given>(body).unwrap_or_default().metadata;
        }
        if self.rule.level >= Level::Request && !body.is_empty() {
            self.request = self.recorded(body);
        }
    }

    /// Takes the answer's object, if it is to be recorded; of refusals always the Status.
    pub fn response(&mut self, code: u16, body: &Bytes) {
        if self.keeps_responses() || code >= 400 {
            self.response = self.recorded(body);
        }
    }

    /// Whether the answer's object is recorded.
    pub fn keeps_responses(&self) -> bool {
        self.rule.level >= Level::RequestResponse
    }

    fn recorded(&self, body: &Bytes) -> Option<Value> {
        let mut value: Value = serde_json::from_slice(body).ok()?;
        if self.rule.omit_managed_fields {
            let strip = |object: &mut Value| {
                object.get_mut("metadata").and_then(Value::as_object_mut).map(|m| m.remove("managedFields"));
            };
            value.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(strip);
            strip(&mut value);
        }
        Some(value)
    }

    /// The record as one line of JSON.
    pub(super) fn line(&self, stage: Stage, code: Option<u16>) -> String {
        let facts = &self.facts;
        let user = facts.actor.as_ref().unwrap_or(&facts.caller);
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": self.rule.level.as_str(), "auditID": self.id,
            "stage": stage.as_str(), "requestURI": facts.uri, "verb": facts.verb, "user": user_info(user),
        });
        if facts.actor.is_some() {
            event["impersonatedUser"] = user_info(&facts.caller);
        }
        if !facts.source.is_empty() {
            event["sourceIPs"] = json!([facts.source]);
        }
        if !facts.user_agent.is_empty() {
            event["userAgent"] = facts.user_agent.as_str().into();
        }
        if let Some(target) = &facts.target {
            event["objectRef"] = self.reference(target);
        }
        if let Some(code) = code {
            event["responseStatus"] = self.status(code);
        }
        if let Some(request) = &self.request {
            event["requestObject"] = request.clone();
        }
        if stage == Stage::ResponseComplete
            && self.rule.level >= Level::RequestResponse
            && let Some(response) = &self.response
        {
            event["responseObject"] = response.clone();
        }
        event["requestReceivedTimestamp"] = self.received.as_str().into();
        event["stageTimestamp"] =
            if stage == Stage::RequestReceived { self.received.clone() } else { stamp() }.into();
        let said = self.annotations.iter().filter(|(_, said)| self.rule.level >= said.from);
        let mut annotations: Value =
            said.map(|(key, said)| (key.clone(), Value::from(said.value.as_str()))).collect();
        if let Some((allowed, reason)) = &self.decision {
            annotations["authorization.k8s.io/decision"] = if *allowed { "allow" } else { "forbid" }.into();
            annotations["authorization.k8s.io/reason"] = reason.as_str().into();
        }
        if annotations.as_object().is_some_and(|all| !all.is_empty()) {
            event["annotations"] = annotations;
        }
        event.to_string()
    }

    fn reference(&self, target: &Target) -> Value {
        let given = &self.given;
        let mut reference = Map::new();
        for (field, value) in [
            ("resource", Some(target.resource.as_str())),
            ("namespace", target.namespace.as_deref().or(given.namespace.as_deref())),
            ("name", target.name.as_deref().or(given.name.as_deref())),
            ("uid", given.uid.as_deref()),
            ("apiGroup", Some(target.group.as_str())),
            ("apiVersion", Some(target.version.as_str())),
            ("resourceVersion", given.resource_version.as_deref()),
            ("subresource", target.subresource.as_deref()),
        ] {
            if let Some(value) = value.filter(|v| !v.is_empty()) {
                reference.insert(field.to_owned(), value.into());
            }
        }
        Value::Object(reference)
    }

    fn status(&self, code: u16) -> Value {
        let mut status = json!({"metadata": {}, "code": code});
        if code >= 400
            && let Some(answer) = &self.response
        {
            for field in ["status", "message", "reason", "details"] {
                if let Some(value) = answer.get(field) {
                    status[field] = value.clone();
                }
            }
        }
        status
    }
}

fn stamp() -> String {
    print_micro(OffsetDateTime::from(now()))
}

#[cfg(test)]
mod tests {
    use super::super::annotations::Annotation;
    use super::*;

    #[test]
    fn a_record_says_as_much_as_its_level() {
        let facts = Facts {
            caller: Caller { user: "jane".into(), ..Caller::default() }.into(),
            actor: Some(Caller { user: "admin".into(), ..Caller::default() }.into()),
            verb: "create".into(),
            target: Some(Target { version: "v1".into(), resource: "pods".into(), ..Target::default() }),
            uri: "/api/v1/pods".into(),
            ..Facts::default()
        };
        let body = Bytes::from_static(br#"{"metadata":{"name":"p","managedFields":[{}]}}"#);
        for (level, request, response) in [
            (Level::Metadata, false, false),
            (Level::Request, true, false),
            (Level::RequestResponse, true, true),
        ] {
            let rule = Applied { level, omit_managed_fields: true, ..Applied::default() };
            let mut draft = Draft::new(facts.clone(), rule);
            draft.request(&body);
            draft.response(201, &body);
            let event: Value =
                serde_json::from_str(&draft.line(Stage::ResponseComplete, Some(201))).expect("JSON");
            assert_eq!(event["user"]["username"], "admin");
            assert_eq!(event["impersonatedUser"]["username"], "jane");
            assert_eq!(event["responseStatus"]["code"], 201);
            assert_eq!(event["requestObject"].is_object(), request, "{level:?}");
            assert_eq!(event["responseObject"].is_object(), response, "{level:?}");
            assert!(event["requestObject"]["metadata"]["managedFields"].is_null());
        }
    }

    #[test]
    fn what_an_object_says_of_itself_is_told_at_every_level() {
        let told = |verb: &str, body: &'static str| {
            let target = Target { version: "v1".into(), resource: "pods".into(), ..Target::default() };
            let facts = Facts { verb: verb.into(), target: Some(target), ..Facts::default() };
            let mut draft = Draft::new(facts, Applied { level: Level::Metadata, ..Applied::default() });
            draft.request(&Bytes::from_static(body.as_bytes()));
            let line = draft.line(Stage::ResponseComplete, Some(201));
            let event: Value = serde_json::from_str(&line).expect("JSON");
            assert!(event["requestObject"].is_null());
            event["objectRef"].clone()
        };
        let named = json!({"resource": "pods", "apiVersion": "v1", "name": "p", "namespace": "n"});
        assert_eq!(told("create", r#"{"metadata":{"name":"p","namespace":"n"},"spec":{}}"#), named);
        // The server makes the name after the record has learnt what was asked.
        let unnamed = json!({"resource": "pods", "apiVersion": "v1"});
        assert_eq!(told("create", r#"{"metadata":{"generateName":"p-"}}"#), unnamed);
        assert_eq!(told("patch", r#"{"metadata":{"name":"p"}}"#), unnamed);
        let update = told("update", r#"{"metadata":{"name":"p","uid":"u","resourceVersion":"7"}}"#);
        assert_eq!((update["uid"].as_str(), update["resourceVersion"].as_str()), (Some("u"), Some("7")));
    }

    #[test]
    fn what_admission_says_stands_beside_the_decision() {
        let rule = Applied { level: Level::Metadata, ..Applied::default() };
        let mut draft = Draft::new(Facts::default(), rule);
        draft.decision = Some((true, String::new()));
        for (key, from) in [("policy/key", Level::Metadata), ("patch", Level::Request)] {
            draft.annotations.insert(key.to_owned(), Annotation { value: "value".to_owned(), from });
        }
        let event: Value =
            serde_json::from_str(&draft.line(Stage::ResponseComplete, Some(201))).expect("JSON");
        let expected = json!({"policy/key": "value", "authorization.k8s.io/decision": "allow",
            "authorization.k8s.io/reason": ""});
        assert_eq!(event["annotations"], expected);
    }

    #[test]
    fn refusals_are_told_at_every_level() {
        let rule = Applied { level: Level::Metadata, ..Applied::default() };
        let mut draft = Draft::new(Facts::default(), rule);
        draft.response(
            403,
            &Bytes::from_static(br#"{"kind":"Status","status":"Failure","reason":"Forbidden"}"#),
        );
        let event: Value =
            serde_json::from_str(&draft.line(Stage::ResponseComplete, Some(403))).expect("JSON");
        assert_eq!(event["responseStatus"]["reason"], "Forbidden");
        assert!(event["responseObject"].is_null());
    }
}
