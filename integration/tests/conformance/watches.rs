//! Watches: from where they go on, what a selector lets through, and that all see the same order.

use std::thread;

use serde_json::{Value, json};

use crate::scene::{Scene, name};

fn map(name: &str, of: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"of": of}}, "data": {}})
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().expect("a version")
}

/// Changes a config map's number.
fn changed(scene: &Scene, name: &str, number: u32) -> Value {
    let path = format!("{}/{name}", scene.core("configmaps"));
    scene.api.merge(&path, &json!({"data": {"number": number.to_string()}})).ok()
}

fn relabelled(scene: &Scene, name: &str, of: &str) {
    let path = format!("{}/{name}", scene.core("configmaps"));
    scene.api.merge(&path, &json!({"metadata": {"labels": {"of": of}}})).ok();
}

pub fn several_selectors(scene: &Scene) {
    let maps = scene.core("configmaps");
    let mut a = scene.api.watch(&format!("{maps}?labelSelector=of%3Da"));
    let mut b = scene.api.watch(&format!("{maps}?labelSelector=of%3Db"));
    let mut both = scene.api.watch(&format!("{maps}?labelSelector=of+in+%28a%2Cb%29"));
    for (name, of) in [("one", "a"), ("two", "b")] {
        scene.create(&maps, &map(name, of));
        changed(scene, name, 1);
        changed(scene, name, 2);
        scene.api.delete(&format!("{maps}/{name}")).ok();
    }
    let expected = |one: &str| {
        ["ADDED", "MODIFIED", "MODIFIED", "DELETED"].map(|kind| (kind.to_owned(), one.to_owned())).to_vec()
    };
    let mut seen = |watch: usize, count: usize| -> Vec<(String, String)> {
        let watch = match watch {
            0 => &mut a,
            1 => &mut b,
            _ => &mut both,
        };
        (0..count).map(|_| watch.next()).map(|(kind, object)| (kind, name(&object).to_owned())).collect()
    };
    assert_eq!(seen(0, 4), expected("one"));
    assert_eq!(seen(1, 4), expected("two"));
    assert_eq!(seen(2, 8), [expected("one"), expected("two")].concat());
}

pub fn from_a_version(scene: &Scene) {
    let maps = scene.core("configmaps");
    scene.create(&maps, &map("one", "x"));
    let first = changed(scene, "one", 1);
    changed(scene, "one", 2);
    scene.api.delete(&format!("{maps}/one")).ok();
    let mut watch =
        scene.api.watch(&format!("{maps}?labelSelector=of%3Dx&resourceVersion={}", version(&first)));
    let (kind, object) = watch.next();
    assert_eq!((kind.as_str(), &object["data"]["number"]), ("MODIFIED", &json!("2")));
    assert_eq!(watch.next().0, "DELETED");
}

pub fn closed_and_begun_anew(scene: &Scene) {
    let maps = scene.core("configmaps");
    let list = format!("{maps}?labelSelector=of%3Dx");
    let mut watch = scene.api.watch(&list);
    scene.create(&maps, &map("one", "x"));
    changed(scene, "one", 1);
    assert_eq!(watch.next().0, "ADDED");
    let (kind, last) = watch.next();
    assert_eq!(kind, "MODIFIED");
    drop(watch);
    changed(scene, "one", 2);
    let mut watch = scene.api.watch(&format!("{list}&resourceVersion={}", version(&last)));
    scene.api.delete(&format!("{maps}/one")).ok();
    let (kind, object) = watch.next();
    assert_eq!((kind.as_str(), &object["data"]["number"]), ("MODIFIED", &json!("2")));
    assert_eq!(watch.next().0, "DELETED");
}

pub fn labels_come_and_go(scene: &Scene) {
    let maps = scene.core("configmaps");
    let mut watch = scene.api.watch(&format!("{maps}?labelSelector=of%3Dx"));
    scene.create(&maps, &map("one", "x"));
    changed(scene, "one", 1);
    relabelled(scene, "one", "y");
    changed(scene, "one", 2);
    relabelled(scene, "one", "x");
    changed(scene, "one", 3);
    scene.api.delete(&format!("{maps}/one")).ok();
    let mut seen = Vec::new();
    for _ in 0..6 {
        let (kind, object) = watch.next();
        seen.push((kind, object["data"]["number"].as_str().unwrap_or("").to_owned()));
    }
    let expected = [
        ("ADDED", ""),
        ("MODIFIED", "1"),
        ("DELETED", "1"),
        ("ADDED", "2"),
        ("MODIFIED", "3"),
        ("DELETED", "3"),
    ];
    assert_eq!(seen, expected.map(|(kind, number)| (kind.to_owned(), number.to_owned())));
}

/// Events that are written while watches begin at each of them.
const EVENTS: u32 = 60;

pub fn all_see_one_order(scene: &Scene) {
    let maps = scene.core("configmaps");
    let begin = version(&scene.get(&maps)).to_owned();
    let from = |version: &str| {
        scene.api.watch(&format!("{maps}?labelSelector=of%3Dorder&resourceVersion={version}"))
    };
    thread::scope(|threads| {
        threads.spawn(|| {
            for number in 0..EVENTS / 3 {
                let name = format!("m{number}");
                scene.create(&maps, &map(&name, "order"));
                changed(scene, &name, number);
                scene.api.delete(&format!("{maps}/{name}")).ok();
            }
        });
        let mut first = from(&begin);
        let mut others = vec![from(&begin)];
        for _ in 0..EVENTS {
            let (kind, object) = first.next();
            for other in &mut others {
                let (also, same) = other.next();
                assert_eq!((also.as_str(), version(&same)), (kind.as_str(), version(&object)));
            }
            if others.len() < 8 {
                others.push(from(version(&object)));
            }
        }
    });
}
