//! The status of flow schemas: whether the priority level that each names is there. `kubectl get flowschemas` shows it.

use k8s_openapi::Resource;
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, FlowSchemaCondition, PriorityLevelConfiguration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::machinery::meta::{is_deleting, now};
use super::machinery::watches::{mapped, own};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// Who owns the condition.
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";
const DANGLING: &str = "Dangling";

/// The controller.
pub struct FlowSchemaController;

impl Reconciler for FlowSchemaController {
    const NAME: &'static str = "priority_and_fairness_config_queue";
    const ACCOUNT: &'static str = "apiserver";
    const RESOURCE: &'static str = "flowschemas";
    const WORKERS: usize = 1;

    /// It is a part of the API server, which may do everything.
    fn caller() -> protocol::Caller {
        protocol::Caller::component("system:apiserver", &["system:masters"])
    }

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<FlowSchema>(),
            mapped::<PriorityLevelConfiguration>(|change, cache| {
                let schemas = cache.list::<FlowSchema>("");
                let naming = schemas.iter().filter(|schema| level(schema) == &*change.stored.meta.name);
                naming.map(|schema| Key::of(&schema.metadata)).collect()
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(schema) = cx.cache.get::<FlowSchema>("", &key.name) else { return Ok(Outcome::DONE) };
        if is_deleting(&schema.metadata) {
            return Ok(Outcome::DONE);
        }
        let found = cx.cache.get::<PriorityLevelConfiguration>("", level(&schema)).is_some();
        let Some(condition) = changed(&schema, found) else { return Ok(Outcome::DONE) };
        let wanted = json!({
            "apiVersion": FlowSchema::API_VERSION, "kind": FlowSchema::KIND,
            "metadata": {"name": schema.metadata.name, "uid": schema.metadata.uid},
            "status": {"conditions": [condition]},
        });
        match cx.client.apply::<FlowSchema>("", &key.name, Some("status"), MANAGER, &wanted).await {
            // It went meanwhile, or another of its name came, which is looked at on its own.
            Err(e) if e.is_not_found() || e.is_conflict() => Ok(Outcome::DONE),
            result => result.map(|_| Outcome::DONE).map_err(Into::into),
        }
    }
}

fn level(schema: &FlowSchema) -> &str {
    schema.spec.as_ref().map_or("", |spec| &spec.priority_level_configuration.name)
}

/// The condition of a schema that names a level, from now on.
pub fn condition(level: &str, found: bool) -> FlowSchemaCondition {
    let (status, reason, said) = match found {
        true => ("False", "Found", "it exists"),
        false => ("True", "NotFound", "there is no such object"),
    };
    let link = if found { "and" } else { "but" };
    FlowSchemaCondition {
        type_: Some(DANGLING.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(format!(
            "This FlowSchema references the PriorityLevelConfiguration object named {level:?} {link} {said}"
        )),
        last_transition_time: Some(Time(now())),
    }
}

/// The condition that a schema is to have, unless it has it.
fn changed(schema: &FlowSchema, found: bool) -> Option<FlowSchemaCondition> {
    let wanted = condition(level(schema), found);
    let conditions = schema.status.as_ref().and_then(|status| status.conditions.as_ref());
    let same = |known: &FlowSchemaCondition| {
        let since = wanted.last_transition_time.clone();
        FlowSchemaCondition { last_transition_time: since, ..known.clone() } == wanted
    };
    let has = conditions.into_iter().flatten().any(same);
    (!has).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_told_once_whether_its_level_is_there() {
        let mut schema: FlowSchema =
            serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"matchingPrecedence": 1,
                "priorityLevelConfiguration": {"name": "x"}}}))
            .expect("a schema");
        let missing = changed(&schema, false).expect("is told");
        assert_eq!(
            (missing.status.as_deref(), missing.reason.as_deref(), missing.message.as_deref()),
            (
                Some("True"),
                Some("NotFound"),
                Some(
                    "This FlowSchema references the PriorityLevelConfiguration object named \"x\" but there is no such object"
                )
            )
        );
        schema.status.get_or_insert_default().conditions = Some(vec![missing]);
        assert_eq!(changed(&schema, false), None);
        let found = changed(&schema, true).expect("is told anew");
        assert!(found.message.is_some_and(|message| message.ends_with("named \"x\" and it exists")));
    }
}
