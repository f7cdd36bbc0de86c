use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::apply::samples::Choices;
use crate::apply::update::{Versions, Write};
use crate::apply::{Managed, Manager, Operation, Table};
use crate::schema::{self, Definition, decode::finish};

/// A kind in one version.
struct Kind<'f> {
    definition: &'static Definition,
    filter: Filter<'f>,
}

impl Versions for Kind<'_> {
    type Shape<'s>
        = Table
    where
        Self: 's;

    fn shape(&self, _: &str) -> Option<Table> {
        Some(Table::of(self.definition))
    }

    fn convert<'v>(&self, object: &'v Value, _: &str, _: &str) -> Cow<'v, Value> {
        Cow::Borrowed(object)
    }

    fn filter(&self, _: &str) -> Filter<'_> {
        self.filter
    }
}

/// The managed fields of a new object, by the short way and by the long one.
fn both(kind: &Kind<'_>, new: &Value) -> (String, String) {
    let empty = finish(kind.definition, json!({}));
    let manager = Manager::new("m", Operation::Update, "v1", "");
    let now = "2026-01-01T00:00:00Z";
    let write = Write { versions: kind, version: "v1", live: &empty, manager, now };
    let long = write.changes(new).and_then(|changes| write.update(new, &changes, Managed::default()));
    (format!("{:?}", write.create(new)), format!("{:?}", long.map(|managed| managed.encode())))
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "namespace": "b", "uid": "u", "labels": {"app": "x"}, "annotations": {},
            "creationTimestamp": null, "finalizers": ["a/b", "a/b", "c/d"]},
        "spec": {"containers": [
            {"name": "c", "image": "i", "resources": {}, "ports": [{"containerPort": 80, "protocol": "TCP"}]},
            {"name": "d", "image": "i", "env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]},
        ], "tolerations": [{"key": "k"}], "nodeSelector": {"a": "b"}, "securityContext": {}},
        "status": {"phase": "Pending"},
    })
}

#[test]
fn the_short_way_says_what_the_long_one_does() {
    let status = Set::of(&[&["status"]]);
    let deep =
        Set::of(&[&["spec", "containers"], &["metadata", "labels", "app"], &["metadata", "finalizers"]]);
    let filters = [Filter::None, Filter::Without(&status), Filter::Without(&deep)];
    for filter in filters {
        let kind = Kind { definition: schema::kind("", "v1", "Pod").expect("pods"), filter };
        let (short, long) = both(&kind, &pod());
        assert_eq!(short, long);
        assert!(short.contains("f:"), "{short}");
    }
}

#[test]
fn the_short_way_is_taken() {
    let definition = schema::kind("", "v1", "Pod").expect("pods");
    let empty = finish(definition, json!({}));
    assert!(created(Table::of(definition), &empty, &pod(), Filter::None, &Set::new()).is_some());
}

#[test]
fn what_has_another_form_goes_the_long_way() {
    let kind = Kind { definition: schema::kind("", "v1", "Pod").expect("pods"), filter: Filter::None };
    let cases = [
        json!({"spec": []}),
        json!({"spec": {"containers": [1]}}),
        json!({"spec": {"containers": {}}}),
        json!({"metadata": {"name": 1, "finalizers": [null]}}),
        json!({"metadata": 1}),
        json!([]),
        json!({}),
    ];
    for case in cases {
        let (short, long) = both(&kind, &case);
        assert_eq!(short, long, "{case}");
    }
}

proptest! {
    #[test]
    fn every_object_has_the_owner_that_comparing_finds(bytes in prop::collection::vec(any::<u8>(), 0..400), filter in 0..3) {
        let mut choices = Choices(&bytes);
        let definition = choices.kind();
        let (status, spec) = (Set::of(&[&["status"]]), Set::of(&[&["spec"], &["metadata", "labels"]]));
        let filter = match filter {
            0 => Filter::None,
            1 => Filter::Without(&status),
            _ => Filter::Without(&spec),
        };
        let new = choices.object(definition);
        for new in [finish(definition, new.clone()), new] {
            let (short, long) = both(&Kind { definition, filter }, &new);
            prop_assert_eq!(short, long);
        }
    }
}
