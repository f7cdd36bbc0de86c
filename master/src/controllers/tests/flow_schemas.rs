//! Flow schemas and the priority levels that they name.

use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};

use super::*;

fn dangling(cache: &Cache, name: &str) -> Option<String> {
    let schema = cache.get::<FlowSchema>("", name)?;
    let conditions = schema.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_.as_deref() == Some("Dangling"))?.status.clone()
}

#[test]
fn schemas_say_whether_their_level_is_there() {
    test(async |c| {
        c.create::<FlowSchema>(json!({"metadata": {"name": "s"},
            "spec": {"matchingPrecedence": 900, "priorityLevelConfiguration": {"name": "level"}}}))
            .await;
        c.until("missing", |cache| dangling(cache, "s").filter(|status| status == "True")).await;
        c.create::<PriorityLevelConfiguration>(json!({"metadata": {"name": "level"},
            "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}}))
            .await;
        c.until("found", |cache| dangling(cache, "s").filter(|status| status == "False")).await;
        let schema = c.cache.get::<FlowSchema>("", "s").expect("is there");
        assert_eq!(schema.metadata.generation, Some(1), "a status is no new state");
    });
}
