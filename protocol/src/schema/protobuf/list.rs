//! Lists as protobuf, an item at a time: the same bytes as of the whole list, which never lies anywhere.

use serde_json::Value;

use super::write::{bytes, length_of, message, put_entries, types};
use super::{Kind, MAGIC, MESSAGES, message_of};

/// A list without its items.
pub struct List {
    types: Vec<u8>,
    /// What the list says before its items, and after them.
    before: Vec<u8>,
    after: Vec<u8>,
    /// The items' field, and what they are.
    number: u64,
    item: &'static str,
}

impl List {
    /// Of a list's JSON without items; `None` where that is no list that has a protobuf form.
    pub fn of(list: &Value) -> Option<List> {
        let (version, kind) = (list["apiVersion"].as_str()?, list["kind"].as_str()?);
        let name = message_of(version, kind)?;
        let table = MESSAGES.get(name)?;
        let at = table.iter().position(|entry| entry.name == "items" && entry.repeated)?;
        let Kind::Message(item) = table[at].kind else { return None };
        let (mut before, mut after) = (Vec::new(), Vec::new());
        put_entries(&mut before, &table[..at], list, 0);
        put_entries(&mut after, &table[at + 1..], list, 0);
        Some(List { types: types(version, kind), before, after, number: table[at].number, item })
    }

    /// Writes one item.
    pub fn put(&self, out: &mut Vec<u8>, item: &Value) {
        let mut raw = Vec::new();
        message(&mut raw, self.item, item, 1);
        bytes(out, self.number, &raw);
    }

    /// What comes before the items, which take so many bytes together.
    pub fn head(&self, items: u64) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        bytes(&mut out, 1, &self.types);
        length_of(&mut out, 2, (self.before.len() + self.after.len()) as u64 + items);
        out.extend_from_slice(&self.before);
        out
    }

    /// What comes after them.
    pub fn tail(&self) -> Vec<u8> {
        let mut out = self.after.clone();
        bytes(&mut out, 3, b"");
        bytes(&mut out, 4, b"");
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::protobuf::envelope;

    #[test]
    fn items_one_by_one_are_the_list_as_a_whole() {
        let pod =
            json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"containers": [{"name": "c"}]}});
        let lists = [
            ("v1", "PodList", vec![pod.clone(), json!({"metadata": {"name": "b"}}), json!({})]),
            ("v1", "PodList", vec![]),
            ("apps/v1", "DeploymentList", vec![json!({"metadata": {"name": "d"}, "spec": {"replicas": 3}})]),
            ("v1", "SecretList", vec![json!({"data": {"k": "YWJj"}})]),
            ("v1", "PodList", (0..300).map(|_| pod.clone()).collect()),
        ];
        for (version, kind, items) in lists {
            let mut list = json!({"apiVersion": version, "kind": kind, "items": [],
                "metadata": {"resourceVersion": "7", "continue": "x", "remainingItemCount": 3}});
            let parts = List::of(&list).expect("a list");
            let mut all = Vec::new();
            items.iter().for_each(|item| parts.put(&mut all, item));
            let whole = [parts.head(all.len() as u64), all, parts.tail()].concat();
            list["items"] = items.into();
            assert_eq!(Some(whole), envelope(&list), "{kind}");
        }
        assert!(List::of(&json!({"apiVersion": "v1", "kind": "Pod"})).is_none());
        assert!(List::of(&json!({"apiVersion": "golden/v1", "kind": "PodList"})).is_none());
    }
}
