//! PodSecurity: namespaces say by labels how much their pods may do.
//!
//! [`policy`] reads the labels, [`checks`] are the standards, [`settings`] what holds without labels. Pods are refused;
//! templates of pods only make warnings, because their pods will be looked at anyway.

use protocol::ApiError;
use serde_json::Value;

use super::Write;
use crate::api::object::{self, at, list, text};
use crate::api::{invalid, kinds};
use crate::audit::annotations::annotate;

mod checks;
mod policy;
mod settings;

use checks::{Violation, violations};
use policy::{Level, Policy, Standard, of_labels};
pub use settings::Settings;

/// What its annotations in the audit log, and the labels, begin with.
const PREFIX: &str = "pod-security.kubernetes.io/";
/// The most pods that a changed label is tried on.
const PODS_MAX: usize = 3000;

pub(super) fn validate(settings: &Settings, write: &mut Write<'_>, value: &Value) -> Result<(), ApiError> {
    let (group, plural) = (write.subject.stored.group, write.subject.stored.plural);
    let subresource = write.subresource();
    if (group, plural) == ("", "namespaces") && subresource.is_empty() {
        return namespace(&settings.defaults, write, value);
    }
    if (group, plural) == ("", "pods") && matches!(subresource, "" | "ephemeralcontainers") {
        if write.old.is_some_and(|old| !is_significant(value, old)) {
            return Ok(());
        }
        return pod(settings, write, &value["metadata"], &value["spec"], true);
    }
    match kinds::template(group, plural) {
        Some(path) if subresource.is_empty() => {
            let template = at(value, path);
            // A ReplicationController may do without.
            if template.is_null() {
                Ok(())
            } else {
                pod(settings, write, &template["metadata"], &template["spec"], false)
            }
        }
        _ => Ok(()),
    }
}

/// Checks a pod, or a template whose pods are checked when they come.
fn pod(
    settings: &Settings,
    write: &mut Write<'_>,
    meta: &Value,
    spec: &Value,
    enforce: bool,
) -> Result<(), ApiError> {
    let exempt = &settings.exempt;
    let exempted = if exempt.namespaces.contains(write.subject.namespace) {
        Some("namespace")
    } else if exempt.usernames.contains(&write.request.caller.user) {
        Some("user")
    } else {
        let class = text(spec, &["runtimeClassName"]);
        (!class.is_empty() && exempt.runtime_classes.contains(class)).then_some("runtimeClass")
    };
    if let Some(by) = exempted {
        annotate(&format!("{PREFIX}exempt"), by);
        return Ok(());
    }
    let Some(stored) = write.snapshot.get("", "namespaces", "", write.subject.namespace) else {
        return Ok(());
    };
    // Most namespaces say nothing.
    let policy = if stored.meta.labels.iter().any(|(key, _)| key.starts_with(PREFIX)) {
        let namespace = stored.value().map_err(ApiError::internal)?;
        of_labels(&namespace["metadata"]["labels"], &settings.defaults).0
    } else {
        settings.defaults
    };
    let audited = violations(policy.audit, meta, spec);
    if !audited.is_empty() {
        let told = format!("would violate PodSecurity \"{}\": {}", policy.audit, told(&audited));
        annotate(&format!("{PREFIX}audit-violations"), &told);
    }
    if enforce {
        annotate(&format!("{PREFIX}enforce-policy"), &policy.enforce.to_string());
        let found = violations(policy.enforce, meta, spec);
        if !found.is_empty() {
            let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, told(&found));
            return Err(write.forbidden(text(meta, &["name"]), &why));
        }
    }
    let found = violations(policy.warn, meta, spec);
    if !found.is_empty() {
        write.warnings.push(format!("would violate PodSecurity \"{}\": {}", policy.warn, told(&found)));
    }
    Ok(())
}

fn told(found: &[Violation]) -> String {
    let one = |v: &Violation| {
        if v.detail.is_empty() { v.reason.to_owned() } else { format!("{} ({})", v.reason, v.detail) }
    };
    found.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Whether an update of a pod touches what upstream looks at: of the fields that may change, images, for whom
/// standards may differ some day, and new ephemeral containers.
fn is_significant(new: &Value, old: &Value) -> bool {
    let of = |pod: &'_ Value, kind: &str| -> Vec<(String, String)> {
        let all = list(pod, &["spec", kind]).iter();
        all.map(|c| (text(c, &["name"]).to_owned(), text(c, &["image"]).to_owned())).collect()
    };
    let images_differ = |kind: &str| {
        let (new, old) = (of(new, kind), of(old, kind));
        new.len() != old.len() || new.iter().zip(&old).any(|((_, new), (_, old))| new != old)
    };
    let before = of(old, "ephemeralContainers");
    images_differ("containers")
        || images_differ("initContainers")
        || of(new, "ephemeralContainers").iter().any(|container| !before.contains(container))
}

/// Labels must be understood; a stricter level is tried on the pods that exist.
fn namespace(defaults: &Policy, write: &mut Write<'_>, value: &Value) -> Result<(), ApiError> {
    let (new, errors) = of_labels(&value["metadata"]["labels"], defaults);
    let name = object::name(value);
    let Some(old) = write.old else {
        return invalid::check(errors, "", "Namespace", name);
    };
    let (before, errors_before) = of_labels(&old["metadata"]["labels"], defaults);
    if !errors.is_empty() && errors.messages() != errors_before.messages() {
        return invalid::check(errors, "", "Namespace", name);
    }
    let relaxed = new.enforce.version == before.enforce.version && new.enforce.level <= before.enforce.level;
    if new.enforce == before.enforce || new.enforce.level == Level::Privileged || relaxed {
        return Ok(());
    }
    let said = existing(write, name, new.enforce);
    write.warnings.extend(said);
    Ok(())
}

/// What there is to say of a namespace's pods under a standard.
fn existing(write: &Write<'_>, namespace: &str, standard: Standard) -> Vec<String> {
    let mut total = 0;
    let mut seen: Vec<(String, String, usize)> = Vec::new();
    for stored in write.snapshot.list("", "pods", namespace) {
        total += 1;
        if total > PODS_MAX {
            continue;
        }
        let Ok(pod) = stored.value() else { continue };
        let found = violations(standard, &pod["metadata"], &pod["spec"]);
        if found.is_empty() {
            continue;
        }
        let reasons = found.iter().map(|v| v.reason).collect::<Vec<_>>().join(", ");
        match seen.iter_mut().find(|(r, _, _)| *r == reasons) {
            Some((_, first, count)) => {
                *count += 1;
                if text(&pod, &["metadata", "name"]) < first.as_str() {
                    *first = object::name(&pod).to_owned();
                }
            }
            None => seen.push((reasons, object::name(&pod).to_owned(), 1)),
        }
    }
    let mut out = Vec::new();
    if total > PODS_MAX {
        out.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {total} existing pods"
        ));
    }
    if !seen.is_empty() {
        out.push(format!(
            "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{standard}\""
        ));
    }
    let mut lines: Vec<String> = seen
        .into_iter()
        .map(|(reasons, first, count)| match count {
            1 => format!("{first}: {reasons}"),
            2 => format!("{first} (and 1 other pod): {reasons}"),
            more => format!("{first} (and {} other pods): {reasons}", more - 1),
        })
        .collect();
    lines.sort();
    out.extend(lines);
    out
}

#[cfg(test)]
mod tests;
