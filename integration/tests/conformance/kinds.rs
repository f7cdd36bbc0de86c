//! What holds for every kind: it is discovered, and its objects are created, read, listed, watched, patched, applied,
//! updated and deleted, one by one and together. Written once; `samples` has an object for each kind.

use serde_json::{Value, json};

use crate::client::{Patch, Watch};
use crate::sample::{Sample, Status};
use crate::scene::{Scene, collection, name};

/// A kind in a scene.
struct Tried<'a> {
    scene: &'a Scene<'a>,
    sample: &'a Sample,
    collection: String,
    /// A query that selects the scene's objects.
    label: String,
}

/// Tries everything with a kind.
pub fn whole_api(scene: &Scene, sample: &Sample) {
    let ns = if sample.namespaced { scene.ns.as_str() } else { "" };
    let tried = Tried {
        scene,
        sample,
        collection: collection(sample.group_version, ns, sample.plural),
        label: format!("labelSelector=of%3D{}", scene.ns),
    };
    tried.is_discovered();
    let first = tried.create(0);
    tried.reads(&first);
    let version =
        scene.get(&tried.list())["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    let mut watch = scene.api.watch(&format!("{}&resourceVersion={version}", tried.list()));
    tried.writes(&first, &mut watch);
    match sample.status {
        Status::Absent => {}
        Status::Metadata => tried.writes_status(&first, &mut watch),
        Status::Alone => tried.writes_status_alone(&first),
    }
    let second = tried.create(1);
    watch.until("ADDED", |object| name(object) == name(&second));
    tried.create(2);
    tried.lists(3);
    tried.deletes_one(&first, &mut watch);
    tried.lists(2);
    tried.deletes_all(&mut watch);
}

impl Tried<'_> {
    fn list(&self) -> String {
        format!("{}?{}", self.collection, self.label)
    }

    fn path(&self, object: &Value) -> String {
        format!("{}/{}", self.collection, name(object))
    }

    fn is_discovered(&self) {
        let (sample, scene) = (self.sample, self.scene);
        let root = match sample.group_version.split_once('/') {
            None => "/api/v1".to_owned(),
            Some((group, version)) => {
                let groups = scene.get("/apis");
                let mut groups = groups["groups"].as_array().expect("groups").iter();
                let listed = groups.find(|one| one["name"] == group).expect("the group is listed");
                let wanted = json!({"groupVersion": sample.group_version, "version": version});
                let one = scene.get(&format!("/apis/{group}"));
                for versions in [&listed["versions"], &one["versions"]] {
                    assert!(versions.as_array().is_some_and(|all| all.contains(&wanted)), "{versions}");
                }
                format!("/apis/{}", sample.group_version)
            }
        };
        let found = scene.get(&root);
        let resources = found["resources"].as_array().expect("resources");
        let find = |name: &str| resources.iter().find(|one| one["name"] == name);
        let resource = find(sample.plural).expect("the kind is listed");
        assert_eq!(
            (&resource["kind"], &resource["namespaced"]),
            (&json!(sample.kind), &json!(sample.namespaced))
        );
        let verbs = resource["verbs"].as_array().expect("verbs");
        for verb in ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"] {
            assert!(verbs.contains(&json!(verb)), "{verb}: {verbs:?}");
        }
        if sample.status != Status::Absent {
            let status = find(&format!("{}/status", sample.plural)).expect("its status is listed");
            assert_eq!(status["verbs"], json!(["get", "patch", "update"]));
        }
    }

    /// Makes the object with this number.
    fn create(&self, number: u8) -> Value {
        let object = self.sample.object(&self.scene.ns, number);
        let made = self.scene.create(&self.collection, &object);
        assert_eq!((name(&made), &made["kind"]), (name(&object), &json!(self.sample.kind)));
        let metadata = &made["metadata"];
        assert!(metadata["uid"].is_string() && metadata["resourceVersion"].is_string(), "{metadata}");
        assert!(metadata["creationTimestamp"].is_string(), "{metadata}");
        // Twice it cannot be made.
        let said = self.scene.api.post(&self.collection, &object);
        assert_eq!(said.body["reason"], "AlreadyExists", "{said:?}");
        made
    }

    fn reads(&self, made: &Value) {
        let read = self.scene.get(&self.path(made));
        assert_eq!(read["metadata"]["uid"], made["metadata"]["uid"]);
        self.lists(1);
    }

    /// So many of the scene's objects are there, in every kind of list.
    fn lists(&self, count: usize) {
        let (sample, scene) = (self.sample, self.scene);
        let list = scene.until(&self.list(), |list| list["items"].as_array().map(Vec::len) == Some(count));
        assert_eq!(list["kind"], format!("{}List", sample.kind));
        assert_eq!(list["apiVersion"], sample.group_version);
        if sample.namespaced {
            let everywhere = collection(sample.group_version, "", sample.plural);
            assert_eq!(scene.items(&format!("{everywhere}?{}", self.label)).len(), count);
        }
        let cached = format!("{}&resourceVersion=0", self.list());
        assert!(scene.get(&cached)["items"].is_array());
        let accept = "application/json;as=Table;g=meta.k8s.io;v=v1";
        let table = scene.api.get_as(&self.list(), accept).ok();
        assert_eq!((&table["kind"], table["rows"].as_array().map(Vec::len)), (&json!("Table"), Some(count)));
    }

    fn annotated(&self, watch: &mut Watch, answered: &Value, annotation: &str) {
        assert_eq!(answered["metadata"]["annotations"][annotation], "yes", "{answered}");
        watch.until("MODIFIED", |seen| {
            name(seen) == name(answered) && seen["metadata"]["annotations"][annotation] == "yes"
        });
    }

    fn writes(&self, made: &Value, watch: &mut Watch) {
        let (scene, path) = (self.scene, self.path(made));
        let change = |annotation: &str| json!({"metadata": {"annotations": {annotation: "yes"}}});
        for (how, annotation) in [(Patch::Merge, "merged"), (Patch::Strategic, "strategic")] {
            let patched = scene.api.patch(how, &path, &change(annotation)).ok();
            self.annotated(watch, &patched, annotation);
        }
        let by_path = json!([{"op": "add", "path": "/metadata/annotations/by-path", "value": "yes"}]);
        let patched = scene.api.patch(Patch::Json, &path, &by_path).ok();
        self.annotated(watch, &patched, "by-path");
        let wanted = json!({"apiVersion": self.sample.group_version, "kind": self.sample.kind,
            "metadata": {"name": name(made), "annotations": {"applied": "yes"}}});
        let apply = format!("{path}?fieldManager=conformance");
        let applied = scene.api.patch(Patch::Apply, &apply, &wanted).ok();
        self.annotated(watch, &applied, "applied");
        let stale = scene.get(&path);
        let updated =
            scene.update(&path, |object| object["metadata"]["annotations"]["updated"] = "yes".into());
        self.annotated(watch, &updated, "updated");
        let mut stale = stale;
        stale["metadata"]["annotations"]["late"] = "yes".into();
        let said = scene.api.put(&path, &stale).refused(409);
        assert!(said.contains("the object has been modified"), "{said}");
        for annotation in ["merged", "strategic", "by-path", "applied", "updated"] {
            assert_eq!(
                scene.get(&path)["metadata"]["annotations"][annotation],
                "yes",
                "{annotation} was kept"
            );
        }
    }

    fn writes_status(&self, made: &Value, watch: &mut Watch) {
        let (scene, status) = (self.scene, format!("{}/status", self.path(made)));
        assert_eq!(scene.get(&status)["metadata"]["uid"], made["metadata"]["uid"]);
        let change = json!({"metadata": {"annotations": {"patched-status": "yes"}}});
        let patched = scene.api.merge(&status, &change).ok();
        self.annotated(watch, &patched, "patched-status");
        let updated = scene.update(&status, |object| {
            object["metadata"]["annotations"]["updated-status"] = "yes".into();
        });
        self.annotated(watch, &updated, "updated-status");
    }

    fn writes_status_alone(&self, made: &Value) {
        let (scene, status) = (self.scene, format!("{}/status", self.path(made)));
        assert_eq!(scene.get(&status)["metadata"]["uid"], made["metadata"]["uid"]);
        let change = json!({"metadata": {"annotations": {"patched-status": "yes"}}});
        let patched = scene.api.merge(&status, &change).ok();
        let updated = scene
            .update(&status, |object| object["metadata"]["annotations"]["updated-status"] = "yes".into());
        for seen in [patched, updated] {
            let annotations = &seen["metadata"]["annotations"];
            assert_eq!(
                (&annotations["updated"], &annotations["patched-status"]),
                (&json!("yes"), &Value::Null)
            );
            assert_eq!(annotations["updated-status"], Value::Null);
        }
    }

    fn deletes_one(&self, made: &Value, watch: &mut Watch) {
        let path = self.path(made);
        let other = json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}});
        self.scene.api.delete_with(&path, &other).refused(409);
        self.scene.api.delete(&path).ok();
        watch.until("DELETED", |object| object["metadata"]["uid"] == made["metadata"]["uid"]);
        let said = self.scene.api.get(&path).refused(404);
        assert!(said.ends_with(&format!("\"{}\" not found", name(made))), "{said}");
    }

    fn deletes_all(&self, watch: &mut Watch) {
        self.scene.api.delete(&self.list()).ok();
        for _ in 0..2 {
            watch.until("DELETED", |_| true);
        }
        self.scene.until_items(&self.list(), <[Value]>::is_empty);
    }
}
