//! Creating objects.

use protocol::schema::Empties;
use protocol::{ApiError, ApiRequest, Resource};
use rand::Rng;
use serde_json::{Value, json};

use super::body::{self, Sent};
use super::options::object_revision;
use super::{Answer, RETRIES_MAX, Subject, canonical, owners, with_revision};
use crate::api::admission::{self, Write};
use crate::api::allocate::Allocation;
use crate::api::invalid::{Errors, Path, check};
use crate::api::kinds::{Generation, MetadataTurn};
use crate::api::managed::Tracking;
use crate::api::pipeline::Inner;
use crate::api::{kinds, meta, object};
use crate::cache::Snapshot;
use crate::store::{Compare, Txn, TxnResult};

const SUFFIX_CHARS: usize = 5;
/// Letters and digits that make no words.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const NAME_CHARS_MAX: usize = 63;
/// How many generated names are tried before the collision is reported.
const NAMES_MAX: usize = 8;

/// What a request wants that makes an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A new object, which is of no revision yet.
    New,
    /// An object to be as it says, whether or not it was there: it may name a revision, which is then nobody's.
    InPlace,
}

/// Some random characters that are safe in names.
pub fn suffix() -> String {
    let mut random = rand::rng();
    (0..SUFFIX_CHARS).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}

/// A name that begins with `prefix`.
pub fn generate_name(prefix: &str) -> String {
    let keep = NAME_CHARS_MAX - SUFFIX_CHARS;
    let end = prefix.char_indices().nth(keep).map_or(prefix.len(), |(i, _)| i);
    format!("{}{}", &prefix[..end], suffix())
}

/// Takes out what only the server says of an object, which is then nobody's either.
fn unsaid(value: &mut Value) {
    if let Some(meta) = object::existing_mut(value, &["metadata"]) {
        for name in
            ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "uid"]
        {
            meta.remove(name);
        }
    }
}

/// Fills in what the server says about a new object.
pub fn stamp(value: &mut Value, namespace: &str, strategy: &kinds::Strategy) {
    let meta = object::object_mut(value, &["metadata"]);
    for name in ["deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "selfLink"] {
        meta.remove(name);
    }
    if namespace.is_empty() {
        meta.remove("namespace");
    } else {
        meta.insert("namespace".to_owned(), namespace.into());
    }
    if matches!(strategy.generation, Generation::States | Generation::Creation) {
        meta.insert("generation".to_owned(), 1.into());
    }
    meta.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
    meta.insert("creationTimestamp".to_owned(), object::now().into());
}

/// Makes up a name for an object that has only the beginning of one.
pub fn name(value: &mut Value, strategy: &kinds::Strategy) {
    let prefix = object::text(value, &["metadata", "generateName"]).to_owned();
    if object::name(value).is_empty() && !prefix.is_empty() {
        let meta = object::object_mut(value, &["metadata"]);
        // Nothing can follow an address.
        let name = if strategy.names == meta::NameRule::Address { prefix } else { generate_name(&prefix) };
        meta.insert("name".to_owned(), name.into());
    }
}

/// The answer to a name that was made up as often as may be, and that other objects had each time.
fn never_free(subject: &Subject<'_>) -> ApiError {
    let resource = subject.resource;
    let mut details = json!({"name": subject.name, "kind": resource.plural, "retryAfterSeconds": 1});
    if !resource.group.is_empty() {
        details["group"] = resource.group.into();
    }
    let message = format!(
        "{} \"{}\" already exists, the server was not able to generate a unique name for the object",
        protocol::error::qualified(resource.group, resource.plural),
        subject.name
    );
    ApiError::about(409, "AlreadyExists", message, details)
}

/// The answer to a name that another object has.
fn taken_by(subject: &Subject<'_>, snapshot: &Snapshot) -> ApiError {
    let resource = subject.resource;
    let mut error = ApiError::already_exists(resource.group, resource.plural, subject.name);
    if let ApiError::Status(status) = &mut error
        && subject.find(snapshot).is_some_and(|stored| stored.meta.is_deleting())
    {
        status.message.insert_str(0, "object is being deleted: ");
    }
    error
}

/// What is wrong with a new object.
fn created_errors(
    resource: &Resource,
    strategy: &kinds::Strategy,
    value: &Value,
    empties: Empties,
) -> Errors {
    let mut errors = Errors::of(empties);
    let (meta, at) = (&value["metadata"], Path::new("metadata"));
    let own = |errors: &mut Errors| {
        let also = |name: &str| (strategy.own_name)(value, name);
        let names: (_, meta::AlsoNamed<'_>) = (strategy.names, &also);
        meta::validate_named(meta, resource.namespaced, names, strategy.plain_finalizers, &at, errors);
    };
    if strategy.metadata == MetadataTurn::First {
        own(&mut errors);
    }
    (strategy.validate)(value, &mut errors);
    (strategy.validate_once)(value, &mut errors);
    if strategy.metadata == MetadataTurn::Between {
        own(&mut errors);
    }
    (strategy.validate_create)(value, &mut errors);
    // The registry's own look, which finds nothing where the kind's was stricter.
    let loose = strategy.metadata == MetadataTurn::Last
        || matches!(strategy.names, meta::NameRule::Any | meta::NameRule::LongName);
    if errors.is_empty() && loose {
        meta::validate(meta, resource.namespaced, meta::NameRule::PathSegment, true, &at, &mut errors);
    }
    errors
}

impl Inner {
    /// Creates an object from a request's body.
    pub async fn create(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, ApiError> {
        let validation = request.options.field_validation.as_deref();
        let mut sent = body::object(&subject, &request.body, validation, warnings)?;
        if let Some(custom) = subject.custom {
            custom.check_type(&sent.value)?;
        }
        owners::once(&mut sent.value, owners::Stage::Sent, warnings);
        unsaid(&mut sent.value);
        Tracking::of(request, subject).create(&mut sent.value, &sent.empties);
        self.create_object(request, subject, sent, Wanted::New, warnings).await
    }

    /// Creates an object that was read already, and whose fields have their manager.
    pub async fn create_object(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        sent: Sent,
        wanted: Wanted,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, ApiError> {
        let Sent { mut value, empties } = sent;
        let resource = subject.resource;
        let named = object::text(&value, &["metadata", "resourceVersion"]).to_owned();
        let given = object::namespace(&value);
        if resource.namespaced && !given.is_empty() && given != subject.namespace {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if subject.custom.is_some_and(|custom| custom.terminating) {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(ApiError::forbidden(resource.group, resource.plural, object::name(&value), why));
        }
        let strategy = kinds::strategy(resource);
        let generated = object::name(&value).is_empty() && strategy.names != meta::NameRule::Address;
        stamp(&mut value, subject.namespace, &strategy);

        let snapshot = admission::settled(self, request, &subject, &value).await?;
        let mut write =
            Write { request, subject, old: None, snapshot: &snapshot, warnings, given_empty: Some(&empties) };
        admission::mutate(self, &mut write, &mut value).await?;
        let version = object_revision(&named);
        if wanted == Wanted::InPlace
            && let Err(error) = &version
        {
            return Err(error.clone());
        }
        // Only now: what changes objects on their way in sees that they have no name yet.
        self::name(&mut value, &strategy);
        owners::once(&mut value, owners::Stage::Admitted, write.warnings);
        if subject.stored.subresource("status").is_some() && !strategy.keeps_status {
            object::object_mut(&mut value, &[]).remove("status");
            // A declared kind may have a default even for that.
            if let Some(custom) = subject.custom {
                custom.fields.fill(&mut value);
            }
        }
        (strategy.sent_warnings)(&value, write.warnings);
        (strategy.prepare_create)(&mut value);
        kinds::without_disabled(subject.stored, &mut value, None);
        let name = object::name(&value).to_owned();
        // What is looked at has been given its addresses and ports.
        let allocates = write.subresource().is_empty();
        let allocated = if allocates {
            self.allocatable(subject.stored, None, &value, &snapshot, request.options.dry_run)?
        } else {
            None
        };
        let allocated = allocated.map(|service| canonical(&subject, service));
        let mut value = canonical(&subject, value);
        let looked_at = allocated.as_ref().unwrap_or(&value);
        let mut errors = admission::refused_access(&write, looked_at);
        errors.append(created_errors(resource, &strategy, looked_at, empties.clone()));
        subject.check_fields(&value, None, false, &mut errors);
        check(errors, subject.stored.group, subject.stored.kind, &name)?;
        (strategy.warnings)(&value, None, write.warnings);
        subject.warn_of_finalizers(&value, None, write.warnings);
        admission::validate(self, &mut write, &value).await?;
        self.call_validating(&mut write, Some(&value)).await?;
        // Found out where it would be stored, where what is no number is no version either.
        if wanted == Wanted::New && !request.options.dry_run && version.is_ok_and(|version| version != 0) {
            return Err(ApiError::new(500, "", "resourceVersion should not be set on objects to be created"));
        }

        let limited = admission::quota::concerns(&self.config.admission, &write);
        let _turn = if limited { Some(self.quota_turns.wait(subject.namespace).await) } else { None };
        let mut current_state = if limited { self.fresh().await? } else { snapshot.clone() };
        for attempt in 0..RETRIES_MAX {
            let allocation = if allocates {
                self.allocate(subject.stored, None, &mut value, &current_state, request.options.dry_run)?
            } else {
                Allocation::default()
            };
            let name = object::name(&value).to_owned();
            let at = Subject { name: &name, ..subject };
            // Of a declared kind what is stored may be of another version than what another try starts from.
            let unsealed = subject.custom.map(|_| value.clone());
            let (sealed, json) = self.sealed(&at, value).await?;
            let mut unsaid = Vec::new();
            let write = Write {
                request,
                subject: at,
                old: None,
                snapshot: &current_state,
                warnings: &mut unsaid,
                given_empty: Some(&empties),
            };
            let charge = admission::quota::charge(&self.config.admission, &self.cache, &write, &sealed)?;
            if request.options.dry_run {
                if at.find(&snapshot).is_some() {
                    return Err(taken_by(&at, &snapshot));
                }
                // Nothing was stored, so nothing has taken the place of the revision that was named.
                let body = with_revision(&self.shown(&at, &json, 0, false).await?, &named)?;
                return Ok(Answer { code: 201, body, revision: 0 });
            }
            let mut txn =
                Txn { compares: vec![Compare { key: at.key(), mod_revision: 0 }], ..Txn::default() };
            txn.ops.push(self.put(&at, &sealed, &json).await?);
            allocation.add_to(&mut txn);
            charge.add_to(&mut txn);
            match self.commit(txn).await? {
                TxnResult::Committed { revision } => {
                    let body = self.shown(&at, &json, revision, true).await?;
                    return Ok(Answer { code: 201, body, revision });
                }
                TxnResult::Conflict { current, .. } => {
                    value = unsealed.unwrap_or(sealed);
                    let taken = current.first().is_some_and(Option::is_some);
                    if taken && generated && attempt < NAMES_MAX {
                        let prefix = object::text(&value, &["metadata", "generateName"]).to_owned();
                        value["metadata"]["name"] = generate_name(&prefix).into();
                    } else if taken && generated {
                        return Err(never_free(&at));
                    } else if taken {
                        return Err(taken_by(&at, &*self.fresh().await?));
                    }
                    // Otherwise an address or port went to somebody else meanwhile: choose another.
                    allocation.undo(&mut value);
                    current_state = self.fresh().await?;
                }
            }
        }
        Err(ApiError::internal("too many conflicting writes"))
    }
}

#[cfg(test)]
mod tests {
    use protocol::resources;

    use super::*;

    #[test]
    fn metadata_is_looked_at_in_its_turn() {
        for (group, version, plural, body, wanted) in [
            ("", "v1", "events", json!({}), vec!["involvedObject.namespace"]),
            (
                "events.k8s.io",
                "v1",
                "events",
                json!({"eventTime": "2026-01-01T00:00:00.000000Z", "reportingComponent": "c", "action": "a",
                    "reason": "r", "type": "x", "involvedObject": {"namespace": "a"}}),
                vec!["reportingInstance", "metadata.name", "type"],
            ),
            (
                "policy",
                "v1",
                "poddisruptionbudgets",
                json!({"spec": {"unhealthyPodEvictionPolicy": "x"}}),
                vec!["spec.unhealthyPodEvictionPolicy"],
            ),
            ("policy", "v1", "poddisruptionbudgets", json!({}), vec!["metadata.name"]),
        ] {
            let resource = resources::find(group, version, plural).expect("a kind");
            let mut object = body;
            object["metadata"] = json!({"namespace": "a"});
            let told =
                created_errors(resource, &kinds::strategy(resource), &object, Empties::default()).messages();
            let fields: Vec<&str> = told.iter().filter_map(|told| told.split(": ").next()).collect();
            assert_eq!(fields, wanted, "{object}");
        }
    }

    #[test]
    fn declared_rules_look_at_names_alone() {
        for (group, plural, wanted) in [
            ("", "replicationcontrollers", "may not contain '/'"),
            ("apps", "replicasets", "a lowercase RFC 1123 subdomain"),
        ] {
            let resource = resources::find(group, "v1", plural).expect("a kind");
            let pod = json!({"restartPolicy": "Always", "dnsPolicy": "Default", "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "c", "image": "i", "imagePullPolicy": "Always",
                    "terminationMessagePolicy": "File"}]});
            let selector =
                if group.is_empty() { json!({"a": "b"}) } else { json!({"matchLabels": {"a": "b"}}) };
            let object = json!({"metadata": {"name": "a", "namespace": "a", "generateName": "a/b"}, "spec": {
                "replicas": 1, "selector": selector,
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod}}});
            let told =
                created_errors(resource, &kinds::strategy(resource), &object, Empties::default()).messages();
            let [told] = told.as_slice() else { panic!("{plural}: {told:?}") };
            assert!(
                told.starts_with(&format!("metadata.generateName: Invalid value: \"a/b\": {wanted}")),
                "{told}"
            );
        }
    }

    #[test]
    fn an_empty_list_is_one_while_it_can_be_told_from_none() {
        let resource = resources::find("resource.k8s.io", "v1", "resourceslices").expect("a kind");
        let definition = protocol::schema::definition("a.resource.v1.ResourceSlice").expect("a kind");
        let slice = json!({"metadata": {"name": "a"}, "spec": {"driver": "d.example.com", "nodeName": "n",
            "pool": {"name": "p", "resourceSliceCount": 1}, "devices": [{"name": "d"}]}});
        for (empties, wanted) in [
            (json!({}), vec![]),
            (
                json!({"spec": {"sharedCounters": []}}),
                vec!["spec: Invalid value: \"\": only one of `sharedCounters` or `devices` is allowed"],
            ),
        ] {
            let told = created_errors(
                resource,
                &kinds::strategy(resource),
                &slice,
                Empties::of(definition, &empties),
            );
            assert_eq!(told.messages(), wanted, "{empties}");
        }
    }
}
