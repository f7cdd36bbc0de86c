//! Going back to an earlier revision because an annotation of the Deployment asks for it, as clients of the first API
//! versions do. Everybody else puts the old template back by a patch. Pure.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::hash::{POD_TEMPLATE_HASH, without_hash};
use super::revision::{NOT_COPIED, ROLLBACK_TO, revision_of};
use crate::controllers::machinery::meta::{annotation, name};

/// What becomes of a Deployment that asked for a rollback.
#[derive(Clone, Debug)]
pub struct Rollback {
    /// The Deployment without the question, and with the revision's template and annotations where there is one.
    pub deployment: Box<Deployment>,
    /// What is told about it.
    pub event: Told,
}

/// What is told about a rollback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether it was done.
    pub done: bool,
    /// Why, as a word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

impl Told {
    fn given_up(reason: &'static str, message: String) -> Self {
        Told { done: false, reason, message }
    }
}

/// The rollback that a Deployment asks for; `None` where it asks for none, or for something that is no number.
pub fn rollback(d: &Deployment, sets: &[&ReplicaSet]) -> Option<Rollback> {
    const NOT_FOUND: &str = "DeploymentRollbackRevisionNotFound";
    let asked: i64 = annotation(&d.metadata, ROLLBACK_TO)?.parse().ok()?;
    let mut next = d.clone();
    if let Some(annotations) = &mut next.metadata.annotations {
        annotations.remove(ROLLBACK_TO);
    }
    let wanted = if asked == 0 { one_before(sets) } else { Some(asked) };
    let event = match wanted {
        None => Told::given_up(NOT_FOUND, "Unable to find last revision.".to_owned()),
        Some(revision) => match sets.iter().find(|rs| revision_of(rs) == revision) {
            None => Told::given_up(NOT_FOUND, "Unable to find the revision to rollback to.".to_owned()),
            Some(rs) => back_to(&mut next, rs, revision),
        },
    };
    Some(Rollback { deployment: Box::new(next), event })
}

/// The newest revision but one.
fn one_before(sets: &[&ReplicaSet]) -> Option<i64> {
    let mut revisions: Vec<i64> = sets.iter().map(|rs| revision_of(rs)).collect();
    revisions.sort_unstable();
    revisions.iter().rev().nth(1).copied().filter(|r| *r != 0)
}

fn back_to(d: &mut Deployment, rs: &ReplicaSet, revision: i64) -> Told {
    let n = name(&d.metadata).to_owned();
    let template = rs.spec.as_ref().and_then(|s| s.template.as_ref());
    let (Some(spec), Some(template)) = (&mut d.spec, template) else {
        return Told::given_up(
            "DeploymentRollbackRevisionNotFound",
            "The revision has no template.".to_owned(),
        );
    };
    if without_hash(&spec.template) == without_hash(template) {
        let message = format!("The rollback revision contains the same template as current deployment {n:?}");
        return Told::given_up("DeploymentRollbackTemplateUnchanged", message);
    }
    spec.template = template.clone();
    if let Some(labels) = spec.template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove(POD_TEMPLATE_HASH);
    }
    // The set's annotations are the Deployment's of then; otherwise those of now would be put on the set.
    let annotations = d.metadata.annotations.get_or_insert_default();
    annotations.retain(|key, _| NOT_COPIED.contains(&key.as_str()));
    let theirs = rs.metadata.annotations.iter().flatten().filter(|(k, _)| !NOT_COPIED.contains(&k.as_str()));
    annotations.extend(theirs.map(|(k, v)| (k.clone(), v.clone())));
    Told {
        done: true,
        reason: "DeploymentRollback",
        message: format!("Rolled back deployment {n:?} to revision {revision}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(image: &str, back_to: Value) -> Deployment {
        let mut d = json!({"metadata": {"name": "d", "annotations": {"now": "1"}}, "spec": {"selector": {},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}});
        if !back_to.is_null() {
            d["metadata"]["annotations"][ROLLBACK_TO] = back_to;
        }
        serde_json::from_value(d).unwrap()
    }

    fn set(revision: &str, image: &str) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": image, "annotations": {"deployment.kubernetes.io/revision": revision, "then": "2"}},
            "spec": {"selector": {}, "template": {"metadata": {"labels": {"a": "b", "pod-template-hash": "h"}},
                "spec": {"containers": [{"name": "c", "image": image}]}}},
        }))
        .unwrap()
    }

    #[test]
    fn the_template_of_a_revision_comes_back_with_its_annotations() {
        let (one, two) = (set("1", "one"), set("2", "two"));
        for asked in ["1", "0"] {
            let done = rollback(&deployment("two", asked.into()), &[&one, &two]).unwrap();
            assert_eq!(done.event.reason, "DeploymentRollback", "{asked}");
            let spec = done.deployment.spec.clone().unwrap();
            assert_eq!(spec.template, deployment("one", Value::Null).spec.unwrap().template);
            let annotations = done.deployment.metadata.annotations.clone().unwrap();
            assert_eq!(annotations.keys().collect::<Vec<_>>(), ["then"]);
        }
    }

    #[test]
    fn what_cannot_be_done_is_given_up_and_said() {
        let one = set("1", "one");
        for (image, asked, reason) in [
            ("one", "7", "DeploymentRollbackRevisionNotFound"),
            ("one", "0", "DeploymentRollbackRevisionNotFound"),
            ("one", "1", "DeploymentRollbackTemplateUnchanged"),
        ] {
            let given_up = rollback(&deployment(image, asked.into()), &[&one]).unwrap();
            assert_eq!((given_up.event.done, given_up.event.reason), (false, reason));
            assert_eq!(annotation(&given_up.deployment.metadata, ROLLBACK_TO), None);
        }
        assert!(rollback(&deployment("one", Value::Null), &[&one]).is_none());
        assert!(rollback(&deployment("one", "x".into()), &[&one]).is_none());
    }
}
