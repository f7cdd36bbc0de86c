//! What is about to be written through this master: the store's watch brings it back as the bytes that it was written
//! as, and what was known of it when it was written need not be found out again.
//!
//! Only a hint. What comes back with other bytes, or was announced too long ago, is read as what others wrote is.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

use super::meta::{self, Meta};
use super::{Cache, Stored};
use crate::store::Record;

/// Writes that are waited for. When more are, all are forgotten: some of them will never come.
const WAITING_MAX: usize = 512;
/// Larger objects are not waited for: writes that fail are kept too, until they are forgotten.
const OBJECT_BYTES_MAX: usize = 32 << 10;

/// The writes that are waited for, by key.
#[derive(Default)]
pub(super) struct Announced {
    waiting: Mutex<HashMap<String, (Bytes, Meta)>>,
}

impl Announced {
    /// What is known of a record, if it is the one that was announced.
    fn take(&self, record: &Record) -> Option<Meta> {
        let mut waiting = self.waiting.lock();
        // A later write may be announced by now.
        if waiting.get(&record.key)?.0 != record.value {
            return None;
        }
        waiting.remove(&record.key).map(|(_, meta)| meta)
    }
}

impl Cache {
    /// Says that an object is about to be written under a key, as this JSON of it.
    pub fn announce(&self, key: &str, json: &Bytes, object: &Value) {
        let Some(fields) = object.as_object().filter(|_| json.len() <= OBJECT_BYTES_MAX) else { return };
        // The JSON must have metadata, and no version yet.
        let versioned =
            fields.get("metadata").and_then(Value::as_object).map(|m| m.contains_key("resourceVersion"));
        if versioned != Some(false) {
            return;
        }
        let Some(meta) = meta::of_value(key, fields) else { return };
        let mut waiting = self.shared.announced.waiting.lock();
        if waiting.len() >= WAITING_MAX && !waiting.contains_key(key) {
            waiting.clear();
        }
        waiting.insert(key.to_owned(), (json.clone(), meta));
    }

    /// A record as an object, if it was announced.
    pub(super) fn as_announced(&self, record: &Record) -> Option<Stored> {
        let meta = self.shared.announced.take(record)?;
        Stored::announced(record, meta, self.shared.parsed.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::parse_key;
    use actors::TraceContext;
    use proptest::prelude::*;
    use serde_json::json;

    fn record(key: &str, value: &Value) -> Record {
        let value = value.to_string().into();
        let trace = TraceContext { trace: 1, message: 2 };
        Record { key: key.to_owned(), value, trace, create_revision: 3, mod_revision: 9, version: 2 }
    }

    /// The object that a record becomes, announced or not.
    fn both(key: &str, object: &Value) -> (Option<Stored>, Option<Stored>) {
        let (cache, record) = (Cache::new(), record(key, object));
        cache.announce(key, &record.value, object);
        let announced = cache.as_announced(&record);
        assert!(cache.as_announced(&record).is_none(), "it comes once");
        (announced, Stored::parse(&record, cache.shared.parsed.clone()).ok())
    }

    #[test]
    fn only_what_was_announced_is_known() {
        let key = "/registry/core/pods/default/a";
        let of = |node: &str| json!({"metadata": {"name": "a", "namespace": "default"}, "spec": {"nodeName": node}});
        let cache = Cache::new();
        let (first, second) = (record(key, &of("n1")), record(key, &of("n2")));
        assert!(cache.as_announced(&first).is_none());
        cache.announce(key, &first.value, &of("n1"));
        cache.announce(key, &second.value, &of("n2"));
        assert!(cache.as_announced(&first).is_none(), "another write of it is waited for");
        let known = cache.as_announced(&second).expect("it was announced");
        assert_eq!(known.meta.field("spec.nodeName"), "n2");
        assert!(cache.as_announced(&second).is_none());
    }

    #[test]
    fn what_never_comes_is_forgotten() {
        let (cache, object) = (Cache::new(), json!({"metadata": {}}));
        for n in 0..WAITING_MAX * 3 {
            cache.announce(&format!("/registry/core/pods/default/{n}"), &Bytes::from_static(b"{}"), &object);
            assert!(cache.shared.announced.waiting.lock().len() <= WAITING_MAX);
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i16>().prop_map(|n| Value::from(f64::from(n) / 4.0)),
            "[ -~é\"\\\\\n]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map(name(), inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    /// Names that are looked at, and some others.
    fn name() -> impl Strategy<Value = String> {
        const KNOWN: &[&str] = &[
            "nodeName",
            "schedulerName",
            "phase",
            "podIP",
            "hostNetwork",
            "component",
            "reason",
            "kind",
            "name",
            "uid",
            "a.b",
            "é\"",
        ];
        proptest::sample::select(KNOWN).prop_map(str::to_owned)
    }

    fn metadata() -> impl Strategy<Value = Value> {
        let text = || prop_oneof![8 => "[a-zé\"\\\\]{0,6}".prop_map(Value::from), 1 => any_json()];
        let labels = proptest::collection::btree_map("[a-z]{1,4}", text(), 0..4);
        let owner =
            (text(), text(), prop_oneof![3 => any::<bool>().prop_map(Value::from), 1 => Just(Value::Null)]);
        let owner = owner
            .prop_map(|(uid, kind, controller)| json!({"uid": uid, "kind": kind, "controller": controller}));
        let owners = prop_oneof![
            4 => proptest::collection::vec(owner, 0..3).prop_map(Value::from),
            1 => any_json(),
        ];
        (text(), text(), labels, owners, any_json(), proptest::option::of(text())).prop_map(
            |(name, uid, labels, owners, generation, deleted)| {
                let mut made = json!({"name": name, "uid": uid, "labels": labels, "ownerReferences": owners});
                if generation.is_number() {
                    made["generation"] = generation;
                }
                if let Some(deleted) = deleted {
                    made["deletionTimestamp"] = deleted;
                }
                made
            },
        )
    }

    proptest! {
        #[test]
        fn an_announced_object_is_as_if_it_were_read(
            metadata in prop_oneof![8 => metadata(), 1 => any_json()],
            spec in any_json(), status in any_json(), source in any_json(),
            key in proptest::sample::select(vec![
                "/registry/core/pods/default/a", "/registry/core/events/default/a", "/registry/core/nodes/a",
                "/registry/apps/replicasets/default/a", "/registry/example.com/things/default/a",
            ]),
        ) {
            prop_assert!(parse_key(key).is_some());
            let object = json!({
                "apiVersion": "v1", "kind": "Any", "metadata": metadata, "spec": spec, "status": status,
                "source": source, "reason": spec, "type": status, "reportingComponent": source,
            });
            let (announced, read) = both(key, &object);
            match (announced, read) {
                (Some(announced), Some(read)) => {
                    prop_assert_eq!(&announced.meta, &read.meta);
                    prop_assert_eq!(&announced.json, &read.json);
                    prop_assert_eq!(&announced.key, &read.key);
                    prop_assert_eq!(
                        (announced.revision, announced.create_revision, announced.trace),
                        (read.revision, read.create_revision, read.trace)
                    );
                }
                // What would not be understood is not announced; nor is what has a version already.
                (None, read) => prop_assert!(
                    read.is_none() || object["metadata"].get("resourceVersion").is_some() || !object["metadata"].is_object()
                ),
                (Some(_), None) => prop_assert!(false, "it is not understood"),
            }
        }
    }
}
