//! Kinds that clients declare: the declarations themselves, their defaults, and how kubectl learns of their fields.

use serde_json::{Value, json};

use crate::client::Patch;
use crate::plane::version;
use crate::scene::{Scene, by_hand, has_condition, name};

/// Where declarations are.
pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Words that are the scene's alone: a group, a plural and a kind.
pub fn words(scene: &Scene) -> (String, String, String) {
    let number = scene.ns.trim_start_matches("behaviour-");
    (format!("g{number}.example.com"), format!("things{number}s"), format!("Thing{number}"))
}

/// A declaration of namespaced objects.
pub fn declaration(group: &str, plural: &str, kind: &str, versions: Value) -> Value {
    json!({"metadata": {"name": format!("{plural}.{group}"), "labels": {"of": group}},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind}, "versions": versions}})
}

/// Declares a kind of the scene with these versions, and waits until it is served.
pub fn declare(scene: &Scene, versions: Value) -> (String, String, String) {
    let (group, plural, kind) = words(scene);
    scene.create(DEFINITIONS, &declaration(&group, &plural, &kind, versions));
    served(scene, &format!("{plural}.{group}"));
    (group, plural, kind)
}

/// Waits until a declared kind is served.
pub fn served(scene: &Scene, definition: &str) {
    scene.until(&format!("{DEFINITIONS}/{definition}"), |one| has_condition(one, "Established", "True"));
}

/// A schema that says nothing.
pub fn open() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

pub fn created_and_deleted(scene: &Scene) {
    let (group, plural, _) = declare(scene, json!([version("v1", true, open())]));
    let path = format!("{DEFINITIONS}/{plural}.{group}");
    let objects = scene.at(&format!("{group}/v1"), &plural);
    assert_eq!(scene.items(&objects), Vec::<Value>::new());
    scene.api.delete(&path).ok();
    scene.until_gone(&path);
    scene.until_answered(|| scene.api.get(&objects), |answer| answer.code == 404);
}

pub fn status(scene: &Scene) {
    let (group, plural, _) = declare(scene, json!([version("v1", true, open())]));
    let status = format!("{DEFINITIONS}/{plural}.{group}/status");
    let seen = scene.get(&status);
    assert!(has_condition(&seen, "Established", "True") && has_condition(&seen, "NamesAccepted", "True"));
    scene.update(&status, |one| {
        one["status"]["conditions"].as_array_mut().expect("conditions").push(by_hand("Updated"));
    });
    assert!(has_condition(&scene.get(&status), "Updated", "True"));
    let add = json!([{"op": "add", "path": "/status/conditions/-", "value": by_hand("Patched")}]);
    scene.api.patch(Patch::Json, &status, &add).ok();
    let seen = scene.get(&status);
    assert!(has_condition(&seen, "Patched", "True") && has_condition(&seen, "Updated", "True"), "{seen}");
}

pub fn listed_and_deleted_together(scene: &Scene) {
    let (group, plural, kind) = words(scene);
    for number in 0..10 {
        let (plural, kind) = (format!("{plural}x{number}"), format!("{kind}x{number}"));
        let mut object = declaration(&group, &plural, &kind, json!([version("v1", true, open())]));
        object["metadata"]["labels"] = json!({"of": format!("{group}-{}", number % 2)});
        scene.create(DEFINITIONS, &object);
    }
    let list = |half: u8| format!("{DEFINITIONS}?labelSelector=of%3D{group}-{half}");
    assert_eq!((scene.items(&list(0)).len(), scene.items(&list(1)).len()), (5, 5));
    scene.api.delete(&list(0)).ok();
    scene.until_items(&list(0), <[Value]>::is_empty);
    assert_eq!(scene.items(&list(1)).len(), 5);
}

pub fn objects_are_watched(scene: &Scene) {
    let (group, plural, kind) = declare(scene, json!([version("v1", true, open())]));
    let objects = scene.at(&format!("{group}/v1"), &plural);
    let mut all = scene.api.watch(&format!("{objects}?"));
    let mut one = scene.api.watch(&format!("{objects}?fieldSelector=metadata.name%3Db"));
    for each in ["a", "b"] {
        let object = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": each}, "content": 1});
        scene.create(&objects, &object);
        scene.api.merge(&format!("{objects}/{each}"), &json!({"content": 2})).ok();
        scene.api.delete(&format!("{objects}/{each}")).ok();
    }
    for each in ["a", "b"] {
        for expected in ["ADDED", "MODIFIED", "DELETED"] {
            let (seen, object) = all.next();
            assert_eq!((seen.as_str(), name(&object)), (expected, each));
        }
    }
    for expected in ["ADDED", "MODIFIED", "DELETED"] {
        let (seen, object) = one.next();
        assert_eq!((seen.as_str(), name(&object)), (expected, "b"));
    }
}

fn defaulting(fields: &[(&str, &str)]) -> Value {
    let mut properties = json!({"a": {"type": "string"}, "b": {"type": "string"}});
    for (field, value) in fields {
        properties[field]["default"] = (*value).into();
    }
    json!([version("v1", true, json!({"type": "object", "properties": properties}))])
}

pub fn defaults(scene: &Scene) {
    let (group, plural, kind) = declare(scene, defaulting(&[]));
    let (path, objects) =
        (format!("{DEFINITIONS}/{plural}.{group}"), scene.at(&format!("{group}/v1"), &plural));
    let object =
        |name: &str| json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": name}});
    let made = scene.create(&objects, &object("first"));
    assert_eq!(made["a"], Value::Null);
    let redeclare = |fields: &[(&str, &str)]| {
        scene.update(&path, |one| one["spec"]["versions"] = defaulting(fields));
    };
    redeclare(&[("a", "A")]);
    // What was stored before is read with it.
    scene.until(&format!("{objects}/first"), |one| one["a"] == "A");
    let made = scene.until_answered(
        || scene.api.post(&objects, &object("second")),
        |answer| answer.body["a"] == "A" || answer.code == 409,
    );
    assert_eq!(made.ok()["a"], "A");
    redeclare(&[("b", "B")]);
    let seen = scene.until(&format!("{objects}/second"), |one| one["b"] == "B");
    assert_eq!(seen["a"], "A", "it was stored");
    let first = scene.get(&format!("{objects}/first"));
    assert_eq!((&first["a"], &first["b"]), (&Value::Null, &json!("B")), "it was only read");
}

pub fn discovered(scene: &Scene) {
    let groups = scene.get("/apis");
    let group = groups["groups"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["name"] == "apiextensions.k8s.io"));
    let wanted = json!({"groupVersion": "apiextensions.k8s.io/v1", "version": "v1"});
    let one = scene.get("/apis/apiextensions.k8s.io");
    for versions in [&group.expect("the group")["versions"], &one["versions"]] {
        assert!(versions.as_array().is_some_and(|all| all.contains(&wanted)), "{versions}");
    }
    let resources = scene.get("/apis/apiextensions.k8s.io/v1");
    let found = resources["resources"]
        .as_array()
        .expect("resources")
        .iter()
        .find(|r| r["name"] == "customresourcedefinitions");
    assert_eq!(found.expect("the kind")["kind"], "CustomResourceDefinition");
}

pub fn selected_by_their_fields(scene: &Scene) {
    let schema =
        json!({"type": "object", "properties": {"host": {"type": "string"}, "port": {"type": "string"}}});
    let mut one = version("v1", true, schema);
    one["selectableFields"] = json!([{"jsonPath": ".host"}, {"jsonPath": ".port"}]);
    let (group, plural, kind) = declare(scene, json!([one]));
    let objects = scene.at(&format!("{group}/v1"), &plural);
    let mut watch = scene.api.watch(&format!("{objects}?fieldSelector=host%3Dhost1"));
    for (name, host, port) in [("a", "host1", "80"), ("b", "host1", "8080"), ("c", "host2", "80")] {
        scene.create(
            &objects,
            &json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": name},
            "host": host, "port": port}),
        );
    }
    let names = |selector: &str| -> Vec<String> {
        let items = scene.items(&format!("{objects}?fieldSelector={selector}"));
        items.iter().map(|one| name(one).to_owned()).collect()
    };
    assert_eq!(names("host%3Dhost1"), ["a", "b"]);
    assert_eq!(names("host%3Dhost1,port%3D80"), ["a"]);
    assert_eq!(names("host%21%3Dhost1"), ["c"]);
    scene.api.merge(&format!("{objects}/a"), &json!({"host": "host2"})).ok();
    scene.api.delete(&format!("{objects}?fieldSelector=host%3Dhost1")).ok();
    let seen: Vec<_> =
        (0..4).map(|_| watch.next()).map(|(kind, one)| (kind, name(&one).to_owned())).collect();
    let expected = [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a"), ("DELETED", "b")];
    assert_eq!(seen, expected.map(|(kind, name)| (kind.to_owned(), name.to_owned())));
    scene.api.get(&format!("{objects}?fieldSelector=other%3Dx")).refused(400);
}
