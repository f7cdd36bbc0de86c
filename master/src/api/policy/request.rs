//! What expressions see of a request.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use protocol::{ApiRequest, Resource};
use serde_json::{Value, json};

use super::forms::kind_of;
use super::matching::{Attempt, Operation};
use crate::api::cel::types::ObjectType;
use crate::api::cel::{Environment, Type};

fn object(name: &str, fields: &[(&str, Type)]) -> Type {
    let fields = fields.iter().map(|(n, ty)| ((*n).to_owned(), ((*n).to_owned(), ty.clone())));
    Type::Object(Arc::new(ObjectType { name: name.to_owned(), fields: fields.collect::<BTreeMap<_, _>>() }))
}

/// The type of `request`.
pub static REQUEST: LazyLock<Type> = LazyLock::new(|| {
    let text = || Type::String;
    let kind =
        object("kubernetes.GroupVersionKind", &[("group", text()), ("version", text()), ("kind", text())]);
    let resource = object(
        "kubernetes.GroupVersionResource",
        &[("group", text()), ("version", text()), ("resource", text())],
    );
    let texts = Type::list(Type::String);
    let extra = Type::Map(Arc::new(Type::String), Arc::new(texts.clone()));
    let user = object(
        "kubernetes.UserInfo",
        &[("username", text()), ("uid", text()), ("groups", texts), ("extra", extra)],
    );
    object(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", text()),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", Type::Bool),
            ("options", Type::Dyn),
        ],
    )
});

/// The type of the namespace that a request is about, as far as expressions see it.
static NAMESPACE: LazyLock<Type> = LazyLock::new(|| {
    let (text, texts) = (|| Type::String, || Type::list(Type::String));
    let by_name = || Type::Map(Arc::new(Type::String), Arc::new(Type::String));
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        &[
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", by_name()),
            ("annotations", by_name()),
            ("UID", text()),
            ("creationTimestamp", Type::Timestamp),
            ("deletionGracePeriodSeconds", Type::Int),
            ("deletionTimestamp", Type::Timestamp),
            ("generation", Type::Int),
            ("resourceVersion", text()),
            ("finalizers", texts()),
        ],
    );
    let spec = object("kubernetes.NamespaceSpec", &[("finalizers", texts())]);
    let status = object("kubernetes.NamespaceStatus", &[("phase", text())]);
    object("kubernetes.Namespace", &[("metadata", metadata), ("spec", spec), ("status", status)])
});

/// The request as an AdmissionReview tells of it to who meant it as one to `form`, but for its uid and the
/// objects.
pub fn described(request: &ApiRequest, attempt: &Attempt<'_>, form: &Resource) -> Value {
    let kind = |r: &Resource| {
        let (group, version, kind) = kind_of(r, attempt.subresource);
        json!({"group": group, "version": version, "kind": kind})
    };
    let resource = |r: &Resource| json!({"group": r.group, "version": r.version, "resource": r.plural});
    let own = attempt.resource;
    let caller = &request.caller;
    let mut user = json!({"username": caller.user, "groups": caller.groups});
    if !caller.uid.is_empty() {
        user["uid"] = caller.uid.as_str().into();
    }
    if !caller.extra.is_empty() {
        user["extra"] = json!(caller.extra);
    }
    let mut made = json!({
        "kind": kind(form), "resource": resource(form),
        "requestKind": kind(own), "requestResource": resource(own),
        "operation": attempt.operation.as_str(), "userInfo": user, "dryRun": request.options.dry_run,
        "options": options(request, attempt.operation),
    });
    for (name, value) in
        [("name", attempt.name), ("namespace", attempt.namespace), ("subResource", attempt.subresource)]
    {
        if !value.is_empty() {
            made[name] = value.into();
        }
    }
    if !attempt.subresource.is_empty() {
        made["requestSubResource"] = attempt.subresource.into();
    }
    made
}

/// The options of a request, as an object of their kind; connections have none.
fn options(request: &ApiRequest, operation: Operation) -> Value {
    let given = &request.options;
    let kind = match operation {
        Operation::Create => "CreateOptions",
        Operation::Update if request.patch.is_some() => "PatchOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut made = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if given.dry_run {
        made["dryRun"] = json!(["All"]);
    }
    if operation == Operation::Delete {
        let texts =
            [("uid", &given.precondition_uid), ("resourceVersion", &given.precondition_resource_version)];
        for (name, text) in texts {
            if let Some(text) = text {
                made["preconditions"][name] = text.as_str().into();
            }
        }
        if let Some(seconds) = given.grace_period_seconds {
            made["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(policy) = &given.propagation_policy {
            made["propagationPolicy"] = policy.as_str().into();
        }
        if let Some(orphan) = given.orphan_dependents {
            made["orphanDependents"] = orphan.into();
        }
        return made;
    }
    if kind == "PatchOptions" && given.force {
        made["force"] = true.into();
    }
    for (name, text) in [("fieldManager", &given.field_manager), ("fieldValidation", &given.field_validation)]
    {
        if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
            made[name] = text.into();
        }
    }
    made
}

/// What the expressions of a policy may use, but for its own variables.
pub fn environment(params: bool) -> Environment {
    let mut environment = Environment::default();
    let mut add = |name: &str, ty: Type| drop(environment.variables.insert(name.to_owned(), ty));
    for name in ["object", "oldObject"] {
        add(name, Type::Dyn);
    }
    add("namespaceObject", NAMESPACE.clone());
    if params {
        add("params", Type::Dyn);
    }
    add("request", REQUEST.clone());
    add("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"));
    add("authorizer.requestResource", Type::Opaque("kubernetes.authorization.ResourceCheck"));
    environment
}
