use serde_json::{Value, json};

use super::*;
use crate::controllers::deployment::hash::without_hash;
use crate::controllers::deployment::status::{NEW_RS_AVAILABLE, PAUSED, TIMED_OUT};

/// A Deployment, its ReplicaSets, and pods that become ready when told to.
struct World {
    d: Deployment,
    sets: Vec<ReplicaSet>,
    now: Timestamp,
}

fn deployment(spec: Value) -> Deployment {
    let mut base = json!({
        "replicas": 3, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "app:1"}]}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    });
    for (k, v) in spec.as_object().unwrap() {
        base[k] = v.clone();
    }
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1}, "spec": base,
    }))
    .unwrap()
}

impl World {
    fn new(spec: Value) -> Self {
        World { d: deployment(spec), sets: Vec::new(), now: "2026-01-01T00:00:00Z".parse().unwrap() }
    }

    /// One decision, applied; false when there was nothing to write.
    fn step(&mut self) -> bool {
        self.now = crate::controllers::machinery::meta::plus_seconds(self.now, 1);
        let view = View { d: &self.d, sets: self.sets.iter().collect(), pods: Vec::new(), now: self.now };
        let plan = decide(&view);
        let mut wrote = false;
        if let Some(mut rs) = plan.create.map(|b| *b) {
            rs.metadata.uid = rs.metadata.name.clone();
            rs.metadata.creation_timestamp = Some(crate::controllers::machinery::meta::time(self.now));
            rs.metadata.generation = Some(1);
            self.sets.push(rs);
            wrote = true;
        }
        for (rs, _) in plan.update {
            let at = self.sets.iter().position(|s| s.metadata.name == rs.metadata.name).unwrap();
            self.sets[at] = rs;
            wrote = true;
        }
        for gone in plan.delete {
            self.sets.retain(|s| s.metadata.name.as_deref() != Some(&gone));
            wrote = true;
        }
        if let Some(revision) = plan.revision {
            self.d.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), revision);
            wrote = true;
        }
        if let Some(status) = plan.status {
            self.d.status = Some(status);
            wrote = true;
        }
        wrote
    }

    /// The ReplicaSets' controller and the pods: everything asked for is there, and available if `ready`.
    fn settle(&mut self, ready: bool) {
        for rs in &mut self.sets {
            let n = replicas(rs);
            let status = rs.status.get_or_insert_default();
            status.replicas = n;
            status.observed_generation = rs.metadata.generation;
            if ready {
                status.ready_replicas = Some(n);
                status.available_replicas = Some(n);
            } else {
                status.available_replicas = Some(status.available_replicas.unwrap_or(0).min(n));
            }
        }
    }

    fn run(&mut self) {
        for _ in 0..100 {
            let wrote = self.step();
            self.settle(true);
            if !wrote && !self.step() {
                return;
            }
        }
        panic!("does not come to rest: {:#?}", self.d.status);
    }

    fn image(&mut self, image: &str) {
        let spec = self.d.spec.as_mut().unwrap();
        spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
        self.d.metadata.generation = self.d.metadata.generation.map(|g| g + 1);
    }

    fn reason(&self) -> &str {
        let status = self.d.status.as_ref().unwrap();
        condition(status, PROGRESSING).and_then(|c| c.reason.as_deref()).unwrap_or_default()
    }

    fn revision(&self) -> &str {
        annotation(&self.d.metadata, REVISION).unwrap_or_default()
    }
}

#[test]
fn a_new_deployment_gets_a_replica_set() {
    let mut w = World::new(json!({}));
    assert!(w.step());
    let rs = &w.sets[0];
    assert!(name(&rs.metadata).starts_with("web-"));
    assert_eq!(replicas(rs), 3);
    assert_eq!(w.revision(), "1");
    assert_eq!(w.reason(), "NewReplicaSetCreated");
    w.run();
    assert_eq!(w.reason(), NEW_RS_AVAILABLE);
    let status = w.d.status.as_ref().unwrap();
    assert_eq!(condition(status, "Available").unwrap().status, "True");
    assert_eq!((status.available_replicas, status.unavailable_replicas), (Some(3), None));
}

#[test]
fn going_back_reuses_the_old_set_and_remembers() {
    let mut w = World::new(json!({}));
    w.run();
    w.image("app:2");
    w.run();
    assert_eq!((w.sets.len(), w.revision()), (2, "2"));
    assert_eq!(w.sets.iter().map(replicas).collect::<Vec<_>>(), [0, 3]);
    w.image("app:1");
    w.run();
    assert_eq!((w.sets.len(), w.revision()), (2, "3"));
    assert_eq!(w.sets.iter().map(replicas).collect::<Vec<_>>(), [3, 0]);
    assert_eq!(annotation(&w.sets[0].metadata, "deployment.kubernetes.io/revision-history"), Some("1"));
}

#[test]
fn history_beyond_the_limit_goes() {
    let mut w = World::new(json!({"revisionHistoryLimit": 1}));
    for n in 1..=4 {
        w.image(&format!("app:{n}"));
        w.run();
    }
    assert_eq!(w.sets.len(), 2);
    assert_eq!(w.sets.iter().map(revision_of).max(), Some(4));
}

#[test]
fn recreate_empties_before_it_fills() {
    let mut w = World::new(json!({"strategy": {"type": "Recreate"}}));
    w.run();
    w.image("app:2");
    w.step();
    assert_eq!(w.sets.iter().map(replicas).collect::<Vec<_>>(), [0], "the old set shrinks, no new one yet");
    w.step();
    assert_eq!(w.sets.len(), 1, "its pods are still there");
    w.run();
    assert_eq!(w.sets.iter().map(replicas).collect::<Vec<_>>(), [0, 3]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut w = World::new(json!({}));
    w.run();
    w.d.spec.as_mut().unwrap().paused = Some(true);
    w.image("app:2");
    w.run();
    assert_eq!((w.sets.len(), w.reason()), (1, PAUSED));
    w.d.spec.as_mut().unwrap().replicas = Some(5);
    w.run();
    assert_eq!(replicas(&w.sets[0]), 5);
    w.d.spec.as_mut().unwrap().paused = Some(false);
    w.run();
    assert_eq!((w.sets.len(), w.reason()), (2, NEW_RS_AVAILABLE));
    let template = w.d.spec.as_ref().unwrap().template.clone();
    assert_eq!(
        w.sets[1].spec.as_ref().unwrap().template.as_ref().map(without_hash),
        Some(without_hash(&template))
    );
}

#[test]
fn no_progress_in_time_is_told() {
    let mut w = World::new(json!({"progressDeadlineSeconds": 30}));
    for _ in 0..10 {
        w.step();
        w.settle(false);
    }
    assert_ne!(w.reason(), TIMED_OUT);
    let view = View { d: &w.d, sets: w.sets.iter().collect(), pods: Vec::new(), now: w.now };
    let after = decide(&view).again_after.expect("it looks again by itself");
    w.now = crate::controllers::machinery::meta::plus_seconds(w.now, after.as_secs() as i64 + 1);
    w.step();
    assert_eq!(w.reason(), TIMED_OUT);
    w.settle(true);
    w.step();
    assert_eq!(w.reason(), NEW_RS_AVAILABLE, "it may still come round");
}
