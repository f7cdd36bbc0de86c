//! DaemonSets, on nodes that are objects alone and that only the scene's own pods tolerate.

use serde_json::{Value, json};

use crate::client::Patch;
use crate::scene::{Scene, is_ending, name, template, uid};

struct Set<'a> {
    scene: &'a Scene<'a>,
    path: String,
    pods: String,
}

fn made<'a>(scene: &'a Scene, selector: &Value) -> Set<'a> {
    let mut template = template("ds");
    template["spec"]["nodeSelector"] = selector.clone();
    template["spec"]["tolerations"] = json!([{"key": "of", "operator": "Exists"}]);
    template["spec"]["terminationGracePeriodSeconds"] = 0.into();
    let object = json!({"metadata": {"name": "ds", "labels": {"app": "ds"}},
        "spec": {"selector": {"matchLabels": {"app": "ds"}}, "template": template}});
    let sets = scene.at("apps/v1", "daemonsets");
    scene.create(&sets, &object);
    Set { scene, path: format!("{sets}/ds"), pods: scene.core("pods") }
}

impl Set<'_> {
    /// Lets go of pods that are being deleted, as a kubelet does, and says of the others that they are ready.
    fn attend(&self) {
        for pod in self.scene.items(&self.pods) {
            if is_ending(&pod) {
                let path = format!("{}/{}", self.pods, name(&pod));
                self.scene.api.delete_with(&path, &json!({"gracePeriodSeconds": 0}));
            }
        }
    }

    /// Waits until it is available on so many nodes.
    fn until_available(&self, count: u32) {
        let done = |set: &Value| {
            self.attend();
            let status = &set["status"];
            status["desiredNumberScheduled"] == count
                && status["currentNumberScheduled"] == count
                && status["numberAvailable"].as_u64().unwrap_or(0) == u64::from(count)
                && status["updatedNumberScheduled"].as_u64().unwrap_or(0) == u64::from(count)
                && status["observedGeneration"] == set["metadata"]["generation"]
        };
        self.scene.until_with(&self.pods, &self.path, done);
    }

    /// The nodes that have a pod.
    fn nodes(&self) -> Vec<String> {
        let pods = self.scene.items(&self.pods);
        let mut all: Vec<_> =
            pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str().map(str::to_owned)).collect();
        all.sort();
        all
    }
}

pub fn on_every_node(scene: &Scene) {
    let nodes = [scene.node(0), scene.node(1)];
    let set = made(scene, &json!({"of": scene.ns}));
    set.until_available(2);
    assert_eq!(set.nodes(), nodes);
    // One that goes is made again.
    let first = scene.items(&set.pods).remove(0);
    scene.api.delete_with(&format!("{}/{}", set.pods, name(&first)), &json!({"gracePeriodSeconds": 0})).ok();
    scene.until_items(&set.pods, |pods| pods.len() == 2 && pods.iter().all(|pod| uid(pod) != uid(&first)));
    set.until_available(2);
    // A selector that is narrowed, and nodes that come to fit it.
    let change = json!({"spec": {"template": {"spec": {"nodeSelector": {"colour": "green"}}}}});
    scene.api.patch(Patch::Strategic, &set.path, &change).ok();
    set.until_available(0);
    let path = format!("/api/v1/nodes/{}", nodes[1]);
    scene.api.merge(&path, &json!({"metadata": {"labels": {"colour": "green"}}})).ok();
    set.until_available(1);
    assert_eq!(set.nodes(), [nodes[1].as_str()]);
}

pub fn failed_pods(scene: &Scene) {
    scene.node(0);
    let set = made(scene, &json!({"of": scene.ns}));
    set.until_available(1);
    let before = scene.items(&set.pods).remove(0);
    scene.pod_ended(name(&before), "Failed", 1);
    scene.until_with(&set.pods, &set.pods, |list| {
        set.attend();
        let pods = crate::scene::items(list);
        pods.len() == 1 && uid(&pods[0]) != uid(&before)
    });
    set.until_available(1);
}

pub fn rolls_and_rolls_back(scene: &Scene) {
    scene.node(0);
    scene.node(1);
    let set = made(scene, &json!({"of": scene.ns}));
    set.until_available(2);
    let image = |image: &str| {
        let change = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
        scene.api.patch(Patch::Strategic, &set.path, &change).ok();
    };
    image("newer");
    set.until_available(2);
    let images = |expected: &str| {
        scene.items(&set.pods).iter().all(|pod| pod["spec"]["containers"][0]["image"] == expected)
    };
    assert!(images("newer"));
    // One that does not get ready is all that is lost, and what is as it was is left alone when one goes back.
    image("broken");
    let seen = scene.until(&set.pods, |list| {
        set.attend();
        crate::scene::items(list).iter().any(|pod| pod["spec"]["containers"][0]["image"] == "broken")
    });
    let left: Vec<_> = crate::scene::items(&seen)
        .into_iter()
        .filter(|pod| pod["spec"]["containers"][0]["image"] == "newer" && !is_ending(pod))
        .collect();
    assert_eq!(left.len(), 1);
    image("newer");
    set.until_available(2);
    assert!(images("newer"));
    let now = scene.items(&set.pods);
    assert!(now.iter().any(|pod| uid(pod) == uid(&left[0])), "it was not restarted");
}

pub fn status(scene: &Scene) {
    scene.node(0);
    let set = made(scene, &json!({"of": scene.ns}));
    set.until_available(1);
    scene.set_conditions(&format!("{}/status", set.path));
    let list = format!("{}?labelSelector=app%3Dds", scene.at("apps/v1", "daemonsets"));
    assert_eq!(scene.items(&list).len(), 1);
    scene.api.delete(&list).ok();
    scene.until_items(&list, <[Value]>::is_empty);
}
