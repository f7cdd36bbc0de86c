use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::apply::Table;
use crate::schema::{self, decode::finish};

/// Deployments in two versions that have the same fields.
struct Deployments;

impl Versions for Deployments {
    type Shape<'s> = Table;

    fn shape(&self, version: &str) -> Option<Table> {
        let known = ["apps/v1", "apps/v2"].contains(&version);
        known.then(|| schema::kind("apps", "v1", "Deployment").map(Table::of)).flatten()
    }

    fn convert<'v>(&self, object: &'v Value, _: &str, _: &str) -> Cow<'v, Value> {
        Cow::Borrowed(object)
    }

    fn filter(&self, _: &str) -> Filter<'_> {
        Filter::None
    }
}

/// An object and its managers, as a server keeps them.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    object: Value,
    managed: Managed,
}

const T0: &str = "2026-01-01T00:00:00Z";
const T1: &str = "2026-01-01T00:00:01Z";

impl Kept {
    fn new() -> Self {
        let definition = schema::kind("apps", "v1", "Deployment").expect("deployments");
        Kept { object: finish(definition, json!({})), managed: Managed::default() }
    }

    fn write<'w>(
        &'w self,
        name: &str,
        operation: Operation,
        version: &'w str,
        now: &'w str,
    ) -> Write<'w, Deployments> {
        Write {
            versions: &Deployments,
            version,
            live: &self.object,
            manager: Manager::new(name, operation, version, ""),
            now,
        }
    }

    fn apply_at(&self, name: &str, config: Value, force: bool, now: &str) -> Result<Kept, Refusal> {
        let write = self.write(name, Operation::Apply, "apps/v1", now);
        let (new, managed) = write.apply(&config, self.managed.clone(), force)?;
        Ok(Kept { object: new.unwrap_or_else(|| self.object.clone()), managed })
    }

    fn apply(&self, name: &str, config: Value) -> Result<Kept, Refusal> {
        self.apply_at(name, config, false, T0)
    }

    fn update(&self, name: &str, version: &str, new: Value) -> Kept {
        let write = self.write(name, Operation::Update, version, T0);
        let changes = write.changes(&new).expect("comparable");
        Kept { managed: write.update(&new, &changes, self.managed.clone()).expect("managers"), object: new }
    }

    /// The fields of a manager.
    fn owned(&self, name: &str) -> Value {
        let found = self.managed.0.iter().find(|(m, _)| m.name == name);
        found.map_or(Value::Null, |(_, owned)| owned.fields.encode())
    }
}

fn containers(list: Value) -> Value {
    json!({"spec": {"template": {"spec": {"containers": list}}}})
}

fn message(result: Result<Kept, Refusal>) -> String {
    match result {
        Ok(kept) => format!("no refusal but {}", kept.object),
        Err(Refusal::Conflicts(conflicts)) => super::super::managers::conflict_message(&conflicts),
        Err(other) => other.to_string(),
    }
}

#[test]
fn what_a_configuration_leaves_out_goes() {
    let first = Kept::new().apply("a", json!({"spec": {"replicas": 1, "paused": true}})).expect("applied");
    let second = first.apply("a", json!({"spec": {"replicas": 1}})).expect("applied");
    assert_eq!(second.object["spec"].get("paused"), None);
    assert_eq!(second.owned("a"), json!({"f:spec": {"f:replicas": {}}}));
    // Unless somebody else has it too.
    let shared = first.apply("b", json!({"spec": {"paused": true}})).expect("agrees");
    let left = shared.apply("a", json!({"spec": {"replicas": 1}})).expect("applied");
    assert_eq!(left.object["spec"]["paused"], true);
    assert_eq!(left.owned("b"), json!({"f:spec": {"f:paused": {}}}));
}

#[test]
fn what_held_what_goes_is_empty_not_absent() {
    let labels = |labels: Value| json!({"metadata": {"labels": labels}});
    let first = Kept::new().apply("a", labels(json!({"x": "1"}))).expect("applied");
    let emptied = first.apply("a", labels(json!({}))).expect("applied");
    assert_eq!(emptied.object["metadata"]["labels"], json!({}));
    assert_eq!(emptied.owned("a"), json!({"f:metadata": {"f:labels": {}}}));
    let gone = emptied.apply("a", json!({"metadata": {}})).expect("applied");
    assert_eq!(gone.object["metadata"].get("labels"), None);
    // So is the element of a list, and what is below it.
    let container = |more: Value| {
        let mut container = json!({"name": "c"});
        container.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        containers(json!([container]))
    };
    let with = container(json!({"securityContext": {"privileged": true}}));
    let without = container(json!({"securityContext": {}}));
    let second = Kept::new().apply("a", with).expect("applied").apply("a", without.clone()).expect("applied");
    assert_eq!(second.object["spec"]["template"]["spec"], without["spec"]["template"]["spec"]);
}

#[test]
fn others_fields_conflict_and_force_takes_them() {
    let first = Kept::new().apply("a", json!({"spec": {"replicas": 1, "paused": true}})).expect("applied");
    let other = json!({"spec": {"replicas": 2, "paused": false}});
    assert_eq!(
        message(first.apply("b", other.clone())),
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.paused\n- .spec.replicas"
    );
    assert_eq!(
        message(first.apply("b", json!({"spec": {"replicas": 2}}))),
        "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas"
    );
    let forced = first.apply_at("b", other, true, T0).expect("forced");
    assert_eq!((forced.owned("a"), forced.object["spec"]["replicas"].clone()), (Value::Null, 2.into()));
    let updated = Kept::new().update("ed", "apps/v1", json!({"spec": {"replicas": 3}}));
    assert_eq!(
        message(updated.apply("a", json!({"spec": {"replicas": 2}}))),
        "Apply failed with 1 conflict: conflict with \"ed\" using apps/v1: .spec.replicas"
    );
}

#[test]
fn entries_of_lists_are_found_by_their_keys() {
    let first = Kept::new().apply("a", containers(json!([{"name": "x", "image": "1"}]))).expect("applied");
    let second = first.apply("b", containers(json!([{"name": "y", "image": "2"}]))).expect("applied");
    assert_eq!(
        second.object["spec"]["template"]["spec"]["containers"],
        json!([{"name": "x", "image": "1"}, {"name": "y", "image": "2"}])
    );
    let third = second.apply("a", containers(json!([]))).expect("applied");
    assert_eq!(third.object["spec"]["template"]["spec"]["containers"], json!([{"name": "y", "image": "2"}]));
    // A key that has a default need not be given.
    let port = containers(json!([{"name": "x", "ports": [{"containerPort": 80}]}]));
    let ported = Kept::new().apply("a", port).expect("applied");
    let key = "k:{\"containerPort\":80,\"protocol\":\"TCP\"}";
    let fields = &ported.owned("a")["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"x\"}"];
    assert_eq!(fields["f:ports"], json!({key: {".": {}, "f:containerPort": {}}}));
}

#[test]
fn the_configurations_order_counts() {
    let names = |kept: &Kept| -> Vec<String> {
        let list =
            kept.object["spec"]["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|c| c["name"].as_str().map(str::to_owned)).collect()
    };
    let list = |names: &[&str]| containers(names.iter().map(|n| json!({"name": n})).collect());
    let cases: [(&[&str], &[&str], &[&str]); 5] = [
        (&["a", "b"], &["b", "a"], &["b", "a"]),
        (&["a", "b", "c"], &["c", "a"], &["b", "c", "a"]),
        (&["a", "b"], &["c"], &["a", "b", "c"]),
        (&["a", "c"], &["a", "b", "c"], &["a", "b", "c"]),
        (&[], &["x", "y"], &["x", "y"]),
    ];
    for (live, config, wanted) in cases {
        let kept = Kept::new().update("u", "apps/v1", list(live)).apply_at("a", list(config), true, T0);
        assert_eq!(names(&kept.expect("applied")), wanted, "{live:?} {config:?}");
    }
}

#[test]
fn what_has_another_form_is_refused_in_upstreams_words() {
    let cases = [
        (json!({"spec": {"golden": 1}}), ".spec.golden: field not declared in schema"),
        (
            containers(json!([{"name": "a"}, {"name": "a"}])),
            ".spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
        ),
        (json!({"spec": {"replicas": "x"}}), ".spec.replicas: expected numeric (int or float), got string"),
        (json!({"spec": {"paused": {}}}), ".spec.paused: expected boolean, got &{map[]}"),
        (json!({"spec": []}), ".spec: expected map, got &{[]}"),
        (containers(json!("x")), ".spec.template.spec.containers: expected list, got &{x}"),
        (
            containers(json!([1])),
            ".spec.template.spec.containers: element 0: associative list with keys may not have non-map elements",
        ),
        (
            json!({"metadata": {"name": 1}}),
            ".metadata.name: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (
            json!({"spec": {"paused": 1, "replicas": "x"}}),
            "errors:\n  .spec.paused: expected boolean, got &{1}\n  .spec.replicas: expected numeric (int or float), got string",
        ),
    ];
    for (config, wanted) in cases {
        assert_eq!(message(Kept::new().apply("a", config.clone())), wanted, "{config}");
    }
}

#[test]
fn times_change_only_with_what_is_owned() {
    let config = json!({"spec": {"replicas": 1}});
    let first = Kept::new().apply("a", config.clone()).expect("applied");
    let again = first.apply_at("a", config, false, T1).expect("applied");
    assert_eq!(again, first);
    let more = first.apply_at("a", json!({"spec": {"replicas": 2}}), false, T1).expect("applied");
    assert_eq!(more.managed.0.values().next().and_then(|o| o.time.as_deref()), Some(T1));
}

#[test]
fn updaters_take_what_they_change_and_lose_what_is_removed() {
    let first = Kept::new().apply("a", json!({"spec": {"replicas": 1, "paused": true}})).expect("applied");
    let mut object = first.object.clone();
    object["spec"]["replicas"] = 5.into();
    object["spec"].as_object_mut().expect("spec").remove("paused");
    let updated = first.update("u", "apps/v1", object);
    assert_eq!(
        (updated.owned("a"), updated.owned("u")),
        (Value::Null, json!({"f:spec": {"f:replicas": {}}}))
    );
}

#[test]
fn every_version_has_its_managers_and_those_of_gone_versions_go() {
    let mut object = Kept::new().object;
    object["spec"]["replicas"] = 5.into();
    let one = Kept::new().update("u", "apps/v1", object.clone());
    object["spec"]["paused"] = true.into();
    let two = one.update("u", "apps/v2", object.clone());
    assert_eq!(two.managed.0.len(), 2);
    object["spec"]["replicas"] = 6.into();
    let three = two.update("w", "apps/v2", object.clone());
    assert_eq!(three.managed.0.keys().filter(|m| m.version == "apps/v1").count(), 0);
    let mut old = three.clone();
    let gone = Manager::new("old", Operation::Update, "apps/v0", "");
    let fields = Set::of(&[&["spec", "paused"]]);
    old.managed.0.insert(gone.clone(), Owned { fields, version: "apps/v0".to_owned(), time: None });
    assert!(!old.update("w", "apps/v2", object).managed.0.contains_key(&gone));
}

#[test]
fn old_updaters_become_one() {
    let mut kept = Kept::new();
    for i in 0..14 {
        let mut object = kept.object.clone();
        object["metadata"]["labels"][format!("l{i}")] = "x".into();
        kept = kept.update(&format!("u{i:02}"), "apps/v1", object);
    }
    assert_eq!(kept.managed.0.len(), UPDATERS_MAX);
    let labels = &kept.owned("ancient-changes")["f:metadata"]["f:labels"];
    assert_eq!(labels.as_object().map(serde_json::Map::len), Some(6), "{labels}");
}

fn any_config() -> impl Strategy<Value = Value> {
    let container = (0..3usize, prop::option::of(0..3u8), prop::option::of(0..2u8));
    let containers = prop::collection::btree_map(0..3usize, container, 0..3);
    (prop::option::of(0..3i64), prop::option::of(any::<bool>()), containers, prop::option::of("[ab]"))
        .prop_map(|(replicas, paused, containers, label)| {
            let mut config = json!({});
            if let Some(replicas) = replicas {
                config["spec"]["replicas"] = replicas.into();
            }
            if let Some(paused) = paused {
                config["spec"]["paused"] = paused.into();
            }
            if let Some(label) = label {
                config["metadata"]["labels"][label.as_str()] = label.as_str().into();
            }
            let list: Vec<Value> = containers
                .into_iter()
                .map(|(name, (_, image, port))| {
                    let mut made = json!({"name": format!("c{name}")});
                    if let Some(image) = image {
                        made["image"] = format!("i{image}").into();
                    }
                    if let Some(port) = port {
                        made["ports"] = json!([{"containerPort": 80 + i32::from(port)}]);
                    }
                    made
                })
                .collect();
            if !list.is_empty() {
                config["spec"]["template"]["spec"]["containers"] = list.into();
            }
            config
        })
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(configs in prop::collection::vec((any_config(), 0..3u8), 1..5)) {
        let mut kept = Kept::new();
        for (config, name) in configs {
            let name = format!("m{name}");
            kept = kept.apply_at(&name, config.clone(), true, T0).expect("forced");
            let again = kept.apply_at(&name, config, true, T1).expect("forced");
            prop_assert_eq!(&again, &kept);
        }
    }

    #[test]
    fn what_is_applied_is_there_and_is_owned(configs in prop::collection::vec((any_config(), 0..3u8), 1..5)) {
        let mut kept = Kept::new();
        let shape = Deployments.shape("apps/v1").expect("served");
        for (config, name) in configs {
            let name = format!("m{name}");
            kept = kept.apply_at(&name, config.clone(), true, T0).expect("forced");
            let found = crate::apply::fields::fields(shape, &kept.object);
            for path in crate::apply::fields::fields(shape, &config).paths() {
                prop_assert!(found.has(&path), "{} is not in {}", crate::apply::set::shown(&path), kept.object);
            }
        }
        // Nobody owns what is not there.
        let found = crate::apply::fields::fields(shape, &kept.object);
        for owned in kept.managed.0.values() {
            for path in owned.fields.paths() {
                prop_assert!(found.has(&path), "{} is owned but not in {}", crate::apply::set::shown(&path), kept.object);
            }
        }
    }

    #[test]
    fn managers_survive_being_written(configs in prop::collection::vec((any_config(), 0..3u8), 1..5)) {
        let mut kept = Kept::new();
        for (config, name) in configs {
            kept = kept.apply_at(&format!("m{name}"), config, true, T0).expect("forced");
        }
        prop_assert_eq!(Managed::decode(&kept.managed.encode()), Ok(kept.managed));
    }

    #[test]
    fn an_empty_configuration_gives_everything_back(config in any_config()) {
        let applied = Kept::new().apply("a", config).expect("applied");
        let left = applied.apply("a", json!({})).expect("applied");
        prop_assert_eq!(left.owned("a"), Value::Null);
    }
}
