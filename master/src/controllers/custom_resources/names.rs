//! Which names a definition gets. Pure.

use serde_json::{Value, json};

use crate::api::custom::definition::{approval, set_condition};
use crate::api::custom::kind::is_true;
use crate::api::object::{list, object_mut, text};

/// The definition with the status that it should have, beside others.
pub fn decide(definition: &Value, others: &[Value]) -> Value {
    let group = text(definition, &["spec", "group"]);
    let rivals: Vec<&Value> = others
        .iter()
        .filter(|o| text(o, &["spec", "group"]) == group)
        .map(|o| &o["status"]["acceptedNames"])
        .collect();
    let (mut resources, mut kinds) = (Vec::new(), Vec::new());
    for names in rivals {
        resources.extend([text(names, &["plural"]), text(names, &["singular"])]);
        resources.extend(list(names, &["shortNames"]).iter().filter_map(Value::as_str));
        kinds.extend([text(names, &["kind"]), text(names, &["listKind"])]);
    }
    let wanted = &definition["spec"]["names"];
    let accepted = &definition["status"]["acceptedNames"];
    let mut names = accepted.as_object().cloned().unwrap_or_default();
    let mut refused: Option<(&str, String)> = None;
    for (field, used, reason) in [
        ("plural", &resources, "PluralConflict"),
        ("singular", &resources, "SingularConflict"),
        ("shortNames", &resources, "ShortNamesConflict"),
        ("kind", &kinds, "KindConflict"),
        ("listKind", &kinds, "ListKindConflict"),
    ] {
        let of = |names: &Value| -> Vec<String> {
            match &names[field] {
                Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                one => one.as_str().map(str::to_owned).into_iter().collect(),
            }
        };
        let has = of(accepted);
        let taken: Vec<String> = of(wanted)
            .into_iter()
            .filter(|name| !has.contains(name) && used.contains(&name.as_str()))
            .map(|name| format!("\"{name}\" is already in use"))
            .collect();
        match taken.as_slice() {
            [] if wanted[field].is_null() => drop(names.remove(field)),
            [] => drop(names.insert(field.to_owned(), wanted[field].clone())),
            [one] => refused = Some((reason, one.clone())),
            many => refused = Some((reason, format!("[{}]", many.join(", ")))),
        }
    }
    match &wanted["categories"] {
        Value::Null => drop(names.remove("categories")),
        categories => drop(names.insert("categories".to_owned(), categories.clone())),
    }
    let mut next = definition.clone();
    object_mut(&mut next, &["status"]).insert("acceptedNames".to_owned(), names.into());
    let (status, reason, message) = match &refused {
        Some((reason, message)) => ("False", *reason, message.as_str()),
        None => ("True", "NoConflicts", "no conflicts found"),
    };
    condition(&mut next, "NamesAccepted", status, reason, message);
    if !is_true(definition, "Established") {
        let (status, reason, message) = if refused.is_none() {
            ("True", "InitialNamesAccepted", "the initial names have been accepted")
        } else {
            ("False", "NotAccepted", "not all names are accepted")
        };
        condition(&mut next, "Established", status, reason, message);
    }
    if let Some((status, reason, message)) = approval(definition) {
        condition(&mut next, "KubernetesAPIApprovalPolicyConformant", status, reason, &message);
    }
    next
}

fn condition(definition: &mut Value, kind: &str, status: &str, reason: &str, message: &str) {
    set_condition(definition, json!({"type": kind, "status": status, "reason": reason, "message": message}));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, kind: &str) -> Value {
        json!({"spec": {"group": "example.com", "names": {
            "plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")}}})
    }

    fn of<'a>(definition: &'a Value, kind: &str) -> (&'a str, &'a str) {
        let conditions = list(definition, &["status", "conditions"]);
        let found = conditions.iter().find(|c| c["type"] == kind).expect("condition");
        (text(found, &["status"]), text(found, &["reason"]))
    }

    #[test]
    fn the_first_has_the_name() {
        let first = decide(&definition("things", "Thing"), &[]);
        assert_eq!(of(&first, "Established"), ("True", "InitialNamesAccepted"));
        let second = decide(&definition("others", "Thing"), std::slice::from_ref(&first));
        assert_eq!(of(&second, "NamesAccepted"), ("False", "ListKindConflict"));
        assert_eq!(of(&second, "Established"), ("False", "NotAccepted"));
        assert_eq!(second["status"]["acceptedNames"], json!({"plural": "others"}));
        // Once the first is gone its names are free.
        let second = decide(&second, &[]);
        assert_eq!(of(&second, "Established"), ("True", "InitialNamesAccepted"));
        assert_eq!(decide(&second, &[]), second);
    }

    #[test]
    fn what_is_established_stays_so() {
        let mut made = decide(&definition("things", "Thing"), &[]);
        made["spec"]["names"]["shortNames"] = json!(["th"]);
        let rival =
            json!({"spec": {"group": "example.com"}, "status": {"acceptedNames": {"shortNames": ["th"]}}});
        let made = decide(&made, &[rival]);
        assert_eq!(of(&made, "NamesAccepted"), ("False", "ShortNamesConflict"));
        assert_eq!(of(&made, "Established").0, "True");
    }
}
