//! Behaviours that upstream asks of every cluster, and that need no node: each tried on a control plane of this
//! process, by plain HTTP or kubectl, in a namespace of its own. All share one plane.
//!
//! `behaviours` is the table of what is covered. Its names are ours; `cargo test --test conformance -- quota` runs
//! those with a word in their name.

#[path = "conformance/accounts.rs"]
mod accounts;
#[path = "conformance/behaviours.rs"]
mod behaviours;
#[path = "conformance/chunks.rs"]
mod chunks;
#[path = "conformance/client.rs"]
mod client;
#[path = "conformance/crds.rs"]
mod crds;
#[path = "conformance/cronjobs.rs"]
mod cronjobs;
#[path = "conformance/daemonsets.rs"]
mod daemonsets;
#[path = "conformance/deployments.rs"]
mod deployments;
#[path = "conformance/discovery.rs"]
mod discovery;
#[path = "conformance/disruption.rs"]
mod disruption;
#[path = "conformance/garbage.rs"]
mod garbage;
#[path = "conformance/jobs.rs"]
mod jobs;
#[path = "conformance/kinds.rs"]
mod kinds;
#[path = "conformance/kubectl.rs"]
mod kubectl;
#[path = "conformance/namespaces.rs"]
mod namespaces;
#[path = "conformance/network.rs"]
mod network;
#[path = "conformance/objects.rs"]
mod objects;
#[path = "conformance/openapi.rs"]
mod openapi;
mod plane;
#[path = "conformance/pods.rs"]
mod pods;
#[path = "conformance/policies.rs"]
mod policies;
#[path = "conformance/quotas.rs"]
mod quotas;
#[path = "conformance/replicas.rs"]
mod replicas;
#[path = "conformance/sample.rs"]
mod sample;
#[path = "conformance/samples.rs"]
mod samples;
#[path = "conformance/scene.rs"]
mod scene;
#[path = "conformance/scheduling.rs"]
mod scheduling;
#[path = "conformance/statefulsets.rs"]
mod statefulsets;
#[path = "conformance/storage.rs"]
mod storage;
#[path = "conformance/validation.rs"]
mod validation;
#[path = "conformance/watches.rs"]
mod watches;
#[path = "conformance/webhooks.rs"]
mod webhooks;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use behaviours::Behaviour;
use libtest_mimic::{Arguments, Trial};

use crate::client::Api;
use crate::plane::Plane;
use crate::scene::Scene;

/// Behaviours that are tried at a time, unless it is said.
const THREADS: usize = 4;

/// The plane that all share, started by who needs it first.
#[derive(Default)]
struct Stage(OnceLock<Shared>);

/// The client ends before the plane does: the plane waits for connections that are open.
struct Shared {
    api: Api,
    plane: Plane,
}

impl Stage {
    fn scene(&self, number: usize) -> Scene<'_> {
        let shared = self.0.get_or_init(|| {
            let plane = Plane::start();
            Shared { api: Api::of(&plane), plane }
        });
        Scene::new(&shared.plane, &shared.api, format!("behaviour-{number}"))
    }
}

fn main() -> ExitCode {
    let stage = Arc::new(Stage::default());
    let trial = |(number, behaviour): (usize, Behaviour)| {
        let stage = stage.clone();
        Trial::test(behaviour.title.clone(), move || {
            (behaviour.test)(&stage.scene(number));
            Ok(())
        })
        .with_kind(behaviour.area)
    };
    let trials = behaviours::all().into_iter().enumerate().map(trial).collect();
    let mut arguments = Arguments::from_args();
    // Most of them wait most of the time.
    arguments.test_threads.get_or_insert(THREADS);
    libtest_mimic::run(&arguments, trials).exit_code()
}
