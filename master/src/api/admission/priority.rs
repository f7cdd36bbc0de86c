//! Priority: pods get the number that their class stands for; one class at most is the default.

use protocol::ApiError;
use serde_json::Value;

use super::Write;
use crate::api::kinds::SYSTEM_PRIORITIES;
use crate::api::object::{self, object_mut, text};
use crate::api::registry::Subject;

pub(super) fn mutate(write: &Write<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if !write.is("", "pods") || !write.subresource().is_empty() {
        return Ok(());
    }
    let Some(old) = write.old else { return priority(write, pod) };
    // What the server found out when the pod was made stays.
    for name in ["priority", "preemptionPolicy"] {
        let was = &old["spec"][name];
        if pod["spec"][name].is_null() && !was.is_null() {
            object_mut(pod, &["spec"]).insert(name.to_owned(), was.clone());
        }
    }
    Ok(())
}

/// Refuses to delete the cluster's own classes.
pub(super) fn deletion(subject: &Subject<'_>) -> Result<(), ApiError> {
    let stored = subject.stored;
    if stored.group == "scheduling.k8s.io"
        && stored.plural == "priorityclasses"
        && SYSTEM_PRIORITIES.iter().any(|(name, _)| *name == subject.name)
    {
        let why = "this is a system priority class and cannot be deleted";
        return Err(ApiError::forbidden(stored.group, stored.plural, subject.name, why));
    }
    Ok(())
}

/// Refuses a second default.
pub(super) fn validate(write: &Write<'_>, class: &Value) -> Result<(), ApiError> {
    if !write.is("scheduling.k8s.io", "priorityclasses") || class["globalDefault"] != Value::Bool(true) {
        return Ok(());
    }
    match global_default(write) {
        Some(other) if object::name(&other) != object::name(class) => {
            let why = format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                object::name(&other)
            );
            Err(write.forbidden(object::name_so_far(class), &why))
        }
        _ => Ok(()),
    }
}

/// The default class; where there is more than one after all, the lowest.
fn global_default(write: &Write<'_>) -> Option<Value> {
    let classes = write.snapshot.list("scheduling.k8s.io", "priorityclasses", "");
    // Few classes say anything of it, and every new pod asks.
    let defaults = classes
        .filter(|stored| stored.mentions("globalDefault"))
        .filter_map(|stored| stored.value().ok())
        .filter(|class| class["globalDefault"] == Value::Bool(true));
    defaults.min_by_key(|v| v["value"].as_i64().unwrap_or(0))
}

fn priority(write: &Write<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let name = text(pod, &["spec", "priorityClassName"]).to_owned();
    let class = if name.is_empty() {
        global_default(write)
    } else {
        let stored = write.snapshot.get("scheduling.k8s.io", "priorityclasses", "", &name);
        let Some(stored) = stored else {
            let why = format!("no PriorityClass with name {name} was found");
            return Err(write.forbidden(object::name_so_far(pod), &why));
        };
        Some(stored.value().map_err(ApiError::internal)?)
    };
    let value = class.as_ref().and_then(|c| c["value"].as_i64()).unwrap_or(0);
    let policy = class.as_ref().map_or("PreemptLowerPriority", |c| match text(c, &["preemptionPolicy"]) {
        "Never" => "Never",
        _ => "PreemptLowerPriority",
    });
    if let Some(given) = pod["spec"]["priority"].as_i64()
        && given != value
    {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name"
        );
        return Err(write.forbidden(object::name_so_far(pod), &why));
    }
    if let Some(given) = pod["spec"]["preemptionPolicy"].as_str()
        && given != policy
    {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        );
        return Err(write.forbidden(object::name_so_far(pod), &why));
    }
    let spec = object_mut(pod, &["spec"]);
    if let (true, Some(class)) = (name.is_empty(), &class) {
        spec.insert("priorityClassName".to_owned(), object::name(class).into());
    }
    spec.insert("priority".to_owned(), value.into());
    object::default(spec, "preemptionPolicy", policy);
    Ok(())
}
