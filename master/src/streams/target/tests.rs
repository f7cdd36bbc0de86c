use serde_json::{Value, json};

use super::*;

fn pod(spec: Value, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec, "status": status,
    }))
    .unwrap()
}

#[test]
fn containers_are_found_by_name_and_by_default() {
    let one = json!({"nodeName": "n", "containers": [{"name": "a"}]});
    let two = json!({
        "nodeName": "n", "containers": [{"name": "a"}, {"name": "b"}],
        "ephemeralContainers": [{"name": "e"}],
    });
    let with_init = json!({
        "nodeName": "n", "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}],
    });
    for (spec, asked, expected) in [
        (&one, None, Ok("a")),
        (&one, Some("x"), Err("container x is not valid for pod p")),
        (&two, Some("b"), Ok("b")),
        (&two, Some("e"), Ok("e")),
        (&two, None, Err("a container name must be specified for pod p, choose one of: [a b]")),
        (&with_init, Some("i"), Ok("i")),
        (
            &with_init,
            None,
            Err("a container name must be specified for pod p, choose one of: [a b] or one of the init \
                 containers: [i]"),
        ),
    ] {
        let found = running(&pod(spec.clone(), json!({})), asked);
        match expected {
            Ok(name) => assert_eq!(found.unwrap().1.container, name),
            Err(why) => assert_eq!(found.unwrap_err().to_string(), why),
        }
    }
    let mut annotated = pod(two, json!({}));
    annotated.metadata.annotations = Some([(DEFAULT_CONTAINER.to_owned(), "b".to_owned())].into());
    assert_eq!(running(&annotated, None).unwrap().1.container, "b");
}

#[test]
fn a_pod_without_a_node_has_an_empty_log_and_no_exec() {
    let pod = pod(json!({"containers": [{"name": "a"}]}), json!({}));
    assert_eq!(running(&pod, None).unwrap_err().to_string(), "pod p does not have a host assigned");
    assert_eq!(logged(&pod, None, false).unwrap(), None);
}

#[test]
fn logs_need_a_container_that_ran() {
    let ended = json!({"terminated": {"exitCode": 1, "containerID": "c1"}});
    let none = json!({});
    for (state, last, previous, expected) in [
        (json!({"running": {}}), none.clone(), false, ""),
        (
            json!({"running": {}}),
            none.clone(),
            true,
            "previous terminated container \"a\" in pod \"p\" not found",
        ),
        (json!({"running": {}}), ended.clone(), true, ""),
        (ended.clone(), none.clone(), false, ""),
        (json!({"waiting": {"reason": "CrashLoopBackOff"}}), ended.clone(), false, ""),
        (
            json!({"waiting": {"reason": "ContainerCreating"}}),
            none.clone(),
            false,
            "container \"a\" in pod \"p\" is waiting to start: ContainerCreating",
        ),
        (
            json!({"waiting": {"reason": "ImagePullBackOff"}}),
            none.clone(),
            false,
            "container \"a\" in pod \"p\" is waiting to start: trying and failing to pull image",
        ),
        (json!({"terminated": {"exitCode": 128}}), none, false, "container \"a\" in pod \"p\" is terminated"),
    ] {
        let status = json!({"containerStatuses": [{
            "name": "a", "state": state, "lastState": last, "ready": false, "restartCount": 0,
            "image": "", "imageID": "",
        }]});
        let pod = pod(json!({"nodeName": "n", "containers": [{"name": "a"}]}), status);
        let found = logged(&pod, None, previous).map(|_| String::new());
        assert_eq!(found.unwrap_or_else(|e| e.to_string()), expected);
    }
}
