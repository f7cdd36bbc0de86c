//! Controllers and scheduler together, on the real pipeline, cache and embedded store, in this process; only
//! nodes are played.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, Pod, ReplicationController, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use protocol::{ApiRequest, Client, Object, PatchKind, Verb};
use serde_json::{Value, json};

use super::*;
use crate::auth::authenticate::Authenticator;
use crate::auth::{ClusterAuthorizer, tokens::TokenKeys};
use crate::store::Store;
use crate::store::embedded::EmbeddedStore;
use crate::{api, bootstrap, cache, scheduler};

mod dual_stack;
mod flow_schemas;
mod ingress;
mod load_balancers;

struct Cluster {
    stage: Stage,
    cache: Cache,
    admin: Client,
    scheduler: actors::ActorRef<scheduler::Scheduler>,
}

impl Cluster {
    /// `node_grace`: nodes here never show that they live.
    async fn start(config: Config, services: DualRange) -> Self {
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory().await.unwrap());
        let settings = bootstrap::Settings {
            advertise_address: "192.0.2.1".parse().unwrap(),
            port: 6443,
            service_address: "10.96.0.1".parse().unwrap(),
            service_cidr: services,
            client_ca: String::new(),
            front_proxy_ca: String::new(),
            request_headers: crate::auth::request_header::RequestHeaders::own(),
        };
        bootstrap::reconcile(&*store, &settings).await.unwrap();
        let cache = Cache::new();
        tokio::task::spawn_local(cache::feed::run(cache.clone(), store.clone()));
        cache.ready().await;
        let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let authenticator = Authenticator::new(cache.clone(), Arc::new(TokenKeys::from_pem(&pem).unwrap()));
        let authorizer = Arc::new(ClusterAuthorizer::new(cache.clone()));
        let pipeline = api::Pipeline::new(
            api::Config { service_cidr: services, ..api::Config::default() },
            store,
            cache.clone(),
            authorizer,
            authenticator,
        );
        let stage = Stage::local();
        let dispatch = Dispatch::start(&stage, cache.clone());
        let door = |caller| pipeline.as_caller(caller);
        start(&stage, &cache, dispatch.clone(), door, &config);
        let scheduler = scheduler::start(&stage, cache.clone(), dispatch, door, scheduler::Config::default());
        let admin = Client::new(pipeline.as_caller(Caller::component("admin", &["system:masters"])), "test");
        Cluster { stage, cache, admin, scheduler }
    }

    async fn create<K: Object>(&self, value: Value) -> K {
        let object: K = serde_json::from_value(value).unwrap();
        self.admin.create(&object).await.unwrap()
    }

    async fn node(&self, name: &str) {
        self.create::<Node>(json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}))
            .await;
        let status = json!({"status": {
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}]}});
        self.admin.patch::<Node>("", name, Some("status"), PatchKind::Strategic, &status).await.unwrap();
    }

    /// Waits for something to become true of the cache.
    async fn until<T>(&self, what: &str, mut test: impl FnMut(&Cache) -> Option<T>) -> T {
        let wait = async {
            loop {
                if let Some(value) = test(&self.cache) {
                    return value;
                }
                let next = self.cache.revision() + 1;
                // Some things become true with time alone.
                let _ = tokio::time::timeout(Duration::from_millis(100), self.cache.wait_for(next)).await;
            }
        };
        // Only a bound for what never happens: a busy machine takes its time.
        match tokio::time::timeout(Duration::from_secs(120), wait).await {
            Ok(value) => value,
            Err(_) => {
                for event in self.cache.list::<Event>("") {
                    eprintln!("{:?} {:?} {:?}", event.involved_object.name, event.reason, event.message);
                }
                panic!("never: {what}")
            }
        }
    }

    /// The kubelet's part: every bound pod runs and is ready, every deleted one ends.
    async fn kubelet(&self) {
        for (n, pod) in self.cache.list::<Pod>("").iter().enumerate() {
            let (ns, name) =
                (machinery::meta::namespace(&pod.metadata), machinery::meta::name(&pod.metadata));
            if machinery::pods::node_name(pod).is_empty() {
                continue;
            }
            if machinery::meta::is_deleting(&pod.metadata) {
                let _ = self.admin.delete::<Pod>(ns, name, None, Some(0)).await;
            } else if !machinery::pods::is_ready(pod) && !machinery::pods::is_finished(pod) {
                let ip = format!("10.244.0.{}", n + 2);
                let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
                let _ =
                    self.admin.patch::<Pod>(ns, name, Some("status"), PatchKind::Strategic, &status).await;
            }
        }
    }

    async fn settle<T>(&self, what: &str, mut test: impl FnMut(&Cache) -> Option<T>) -> T {
        for _ in 0..400 {
            self.kubelet().await;
            if let Some(value) = test(&self.cache) {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        self.until(what, test).await
    }
}

/// A test for which no node is silent too long, however slow the machine.
fn test(run: impl AsyncFnOnce(Cluster)) {
    test_on(config(), "10.96.0.0/16", run);
}

fn test_with(node_grace: Duration, run: impl AsyncFnOnce(Cluster)) {
    test_on(Config { node_grace, ..config() }, "10.96.0.0/16", run);
}

/// What controllers are told where no test says otherwise: no node is silent too long.
fn config() -> Config {
    let node_grace = Duration::from_secs(3600);
    Config { root_ca_pem: "a certificate".to_owned(), node_grace, ..Config::default() }
}

/// A test of a cluster with these controllers, and these addresses for Services.
fn test_on(config: Config, services: &str, run: impl AsyncFnOnce(Cluster)) {
    actix_rt::System::new().block_on(async move {
        let cluster = Cluster::start(config, services.parse().unwrap()).await;
        let stage = cluster.stage.clone();
        run(cluster).await;
        let left = stage.shut_down(Duration::from_secs(5)).await;
        assert!(left.is_empty(), "actors are left running: {left:?}");
    });
}

fn deployment(name: &str, replicas: i32) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "app:1"}]}}},
    })
}

fn available(cache: &Cache, name: &str) -> i32 {
    let d = cache.get::<Deployment>("default", name);
    d.and_then(|d| d.status.as_ref().and_then(|s| s.available_replicas)).unwrap_or(0)
}

#[test]
fn namespaces_get_their_account_and_certificate() {
    test(async |c| {
        c.create::<Namespace>(json!({"metadata": {"name": "team"}})).await;
        c.until("the account", |cache| cache.get::<ServiceAccount>("team", "default")).await;
        let map = c.until("the certificate", |cache| cache.get::<ConfigMap>("team", root_ca::NAME)).await;
        assert_eq!(map.data.as_ref().unwrap()["ca.crt"], "a certificate");
        c.create::<ConfigMap>(json!({"metadata": {"name": "mine", "namespace": "team"}})).await;
        c.admin.delete::<Namespace>("", "team", None, None).await.unwrap();
        c.until("it is gone", |cache| cache.get::<Namespace>("", "team").is_none().then_some(())).await;
        assert!(c.cache.list::<ConfigMap>("team").is_empty());
    });
}

#[test]
fn a_deployment_comes_up_rolls_and_goes() {
    test(async |c| {
        c.node("n1").await;
        c.until("its addresses", |cache| {
            let node = cache.get::<Node>("", "n1")?;
            node.spec.as_ref()?.pod_cidr.clone().filter(|cidr| cidr == "10.244.0.0/24")
        })
        .await;
        c.until("the account", |cache| cache.get::<ServiceAccount>("default", "default")).await;
        c.create::<Deployment>(deployment("web", 3)).await;
        let service = json!({"metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}});
        c.create::<Service>(service).await;
        c.settle("three are available", |cache| (available(cache, "web") == 3).then_some(())).await;
        let addresses = |cache: &Cache, wanted: usize| {
            let endpoints = cache.get::<Endpoints>("default", "web")?;
            let subset = endpoints.subsets.as_ref()?.first()?.clone();
            (subset.addresses?.len() == wanted).then_some(())
        };
        c.until("three addresses", |cache| addresses(cache, 3)).await;
        let in_slices = |cache: &Cache| {
            let slices = cache.list::<EndpointSlice>("default");
            let of_web = slices.iter().filter(|s| machinery::meta::name(&s.metadata).starts_with("web-"));
            of_web.flat_map(|s| s.endpoints.clone().unwrap_or_default()).count()
        };
        c.until("three in slices", |cache| (in_slices(cache) == 3).then_some(())).await;
        let events = c.until("its events", |cache| {
            let events = cache.list::<Event>("default");
            let reasons: Vec<String> = events.iter().filter_map(|e| e.reason.clone()).collect();
            let all = ["ScalingReplicaSet", "SuccessfulCreate", "Scheduled"];
            all.iter().all(|r| reasons.iter().any(|x| x == r)).then_some(events)
        });
        let events = events.await;
        assert!(events.iter().any(|e| {
            e.message.as_deref().is_some_and(|m| m.starts_with("Successfully assigned default/web-"))
        }));

        let before = c.cache.get::<Deployment>("default", "web").unwrap();
        assert_eq!(before.metadata.generation, Some(1), "{before:#?}");
        let image =
            json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "app:2"}]}}}});
        c.admin.patch::<Deployment>("default", "web", None, PatchKind::Strategic, &image).await.unwrap();
        c.settle("the new version", |cache| {
            let d = cache.get::<Deployment>("default", "web")?;
            let status = d.status.as_ref()?;
            let done = status.observed_generation == Some(2)
                && status.updated_replicas == Some(3)
                && status.replicas == Some(3)
                && status.available_replicas == Some(3);
            done.then_some(())
        })
        .await;
        assert_eq!(c.cache.list::<ReplicaSet>("default").len(), 2);

        let pod = c.cache.list::<Pod>("default").into_iter().find(|p| machinery::pods::is_active(p)).unwrap();
        c.admin.delete::<Pod>("default", machinery::meta::name(&pod.metadata), None, Some(0)).await.unwrap();
        c.settle("it is replaced", |cache| {
            let pods = cache.list::<Pod>("default");
            let uid = pod.metadata.uid.as_ref();
            (pods.len() == 3 && pods.iter().all(|p| p.metadata.uid.as_ref() != uid)).then_some(())
        })
        .await;

        c.admin.delete::<Deployment>("default", "web", None, None).await.unwrap();
        c.settle("the garbage is collected", |cache| {
            let left = cache.list::<ReplicaSet>("default").len() + cache.list::<Pod>("default").len();
            (left == 0).then_some(())
        })
        .await;
    });
}

#[test]
fn a_pod_that_fits_nowhere_says_why_and_is_tried_when_a_node_comes() {
    test(async |c| {
        c.until("the account", |cache| cache.get::<ServiceAccount>("default", "default")).await;
        let pod = json!({"metadata": {"name": "p", "namespace": "default"},
            "spec": {"containers": [{"name": "c", "image": "app:1", "resources": {"requests": {"cpu": "2"}}}]}});
        c.create::<Pod>(pod).await;
        let said = |cache: &Cache| {
            let pod = cache.get::<Pod>("default", "p")?;
            machinery::pods::condition(&pod, "PodScheduled")?.message.clone()
        };
        let text = c.until("why it waits", said).await;
        assert_eq!(text, "no nodes available to schedule pods");
        c.create::<Node>(
            json!({"metadata": {"name": "small"}, "status": {"allocatable": {"cpu": "1", "pods": "9"}}}),
        )
        .await;
        let text = c.until("why it still waits", |cache| said(cache).filter(|t| t.starts_with("0/1"))).await;
        assert!(text.starts_with("0/1 nodes are available: 1 "), "{text}");
        let why = scheduler::Why { namespace: "default".to_owned(), name: "p".to_owned() };
        let verdict = c.scheduler.ask(why, Duration::from_secs(5)).await.unwrap().expect("a verdict");
        assert_eq!(verdict.text, text);
        c.node("n1").await;
        c.until("it is bound", |cache| {
            let pod = cache.get::<Pod>("default", "p")?;
            (machinery::pods::node_name(&pod) == "n1").then_some(())
        })
        .await;
    });
}

#[test]
fn a_panicking_controller_is_rebuilt_and_goes_on() {
    test(async |c| {
        c.node("n1").await;
        c.until("the account", |cache| cache.get::<ServiceAccount>("default", "default")).await;
        c.create::<Deployment>(deployment("web", 2)).await;
        for actor in ["deployment", "replicaset", "garbage_collector_attempt_to_delete"] {
            assert!(c.stage.inject_panic(&format!("master/controllers/{actor}")), "{actor}");
        }
        assert!(c.stage.inject_panic("master/scheduler"));
        c.settle("two are available", |cache| (available(cache, "web") == 2).then_some(())).await;
    });
}

#[test]
fn a_job_runs_to_its_end_and_every_pod_is_let_go() {
    test(async |c| {
        c.node("n1").await;
        c.until("the account", |cache| cache.get::<ServiceAccount>("default", "default")).await;
        c.create::<Job>(json!({"metadata": {"name": "sum", "namespace": "default"}, "spec": {
            "completions": 2, "parallelism": 1, "template": {"spec": {"restartPolicy": "Never",
                "containers": [{"name": "c", "image": "app:1"}]}}}}))
            .await;
        let mut ended: Vec<Option<String>> = Vec::new();
        for _ in 0..2 {
            let pod = c
                .settle("a pod runs", |cache| {
                    let fresh = |p: &Arc<Pod>| {
                        machinery::pods::phase(p) == "Running" && !ended.contains(&p.metadata.uid)
                    };
                    cache.list::<Pod>("default").into_iter().find(fresh)
                })
                .await;
            assert!(
                pod.metadata
                    .finalizers
                    .as_ref()
                    .is_some_and(|f| f.iter().any(|f| f == job::decide::TRACKING))
            );
            let done = json!({"status": {"phase": "Succeeded"}});
            let name = machinery::meta::name(&pod.metadata);
            ended.push(pod.metadata.uid.clone());
            c.admin.patch::<Pod>("default", name, Some("status"), PatchKind::Strategic, &done).await.unwrap();
        }
        let job = c
            .until("it is complete", |cache| {
                cache.get::<Job>("default", "sum").filter(|j| job::decide::is_over(j))
            })
            .await;
        assert_eq!(job.status.as_ref().and_then(|s| s.succeeded), Some(2));
        c.until("its pods are let go", |cache| {
            let pods = cache.list::<Pod>("default");
            let held = pods.iter().any(|p| p.metadata.finalizers.as_ref().is_some_and(|f| !f.is_empty()));
            (pods.len() == 2 && !held).then_some(())
        })
        .await;
        // As kubectl asks; by itself the server would orphan a Job's pods.
        delete_by::<Job>(&c, "sum", "Background").await;
        c.settle("its pods go with it", |cache| cache.list::<Pod>("default").is_empty().then_some(())).await;
    });
}

async fn delete_by<K: Object>(c: &Cluster, name: &str, policy: &str) {
    let mut request = ApiRequest::new(Verb::Delete, Client::target::<K>("default", Some(name), None));
    request.options.propagation_policy = Some(policy.to_owned());
    c.admin.send(request).await.unwrap();
}

#[test]
fn owners_leave_their_dependents_or_wait_for_them() {
    test(async |c| {
        c.node("n1").await;
        c.until("the account", |cache| cache.get::<ServiceAccount>("default", "default")).await;
        let template = json!({"metadata": {"labels": {"app": "rc"}},
            "spec": {"containers": [{"name": "c", "image": "app:1"}]}});
        let rc = json!({"metadata": {"name": "rc", "namespace": "default"}, "spec": {"replicas": 2,
            "selector": {"app": "rc"}, "template": template}});
        c.create::<ReplicationController>(rc.clone()).await;
        let running = |cache: &Cache| {
            let pods = cache.list::<Pod>("default");
            let ready = pods.iter().filter(|p| machinery::pods::is_ready(p)).count();
            (ready == 2).then_some(())
        };
        c.settle("two run", running).await;
        delete_by::<ReplicationController>(&c, "rc", "Orphan").await;
        c.until("it is gone, they are not", |cache| {
            let gone = cache.get::<ReplicationController>("default", "rc").is_none();
            let pods = cache.list::<Pod>("default");
            let free = pods.iter().all(|p| machinery::meta::controller_of(&p.metadata).is_none());
            (gone && free && pods.len() == 2).then_some(())
        })
        .await;

        c.create::<ReplicationController>(rc).await;
        c.until("they are adopted", |cache| {
            let pods = cache.list::<Pod>("default");
            let owned = pods.iter().all(|p| machinery::meta::controller_of(&p.metadata).is_some());
            (owned && pods.len() == 2).then_some(())
        })
        .await;
        delete_by::<ReplicationController>(&c, "rc", "Foreground").await;
        c.until("they are told to go", |cache| {
            let all = cache.list::<Pod>("default").iter().all(|p| machinery::meta::is_deleting(&p.metadata));
            all.then_some(())
        })
        .await;
        assert!(c.cache.get::<ReplicationController>("default", "rc").is_some(), "it waits for its pods");
        c.settle("it goes after them", |cache| {
            cache.get::<ReplicationController>("default", "rc").is_none().then_some(())
        })
        .await;
        assert!(c.cache.list::<Pod>("default").is_empty());
    });
}

#[test]
fn a_silent_node_loses_its_pods() {
    test_with(Duration::from_secs(2), async |c| {
        c.node("n1").await;
        c.node("n2").await;
        c.until("the account", |cache| cache.get::<ServiceAccount>("default", "default")).await;
        let tolerations = json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists",
            "effect": "NoExecute", "tolerationSeconds": 0}]);
        c.create::<Pod>(json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"nodeName": "n1",
            "tolerations": tolerations, "containers": [{"name": "c", "image": "app:1"}]}}))
            .await;
        c.kubelet().await;
        // n2 goes on telling that it lives, n1 does not.
        let mut beat = 0;
        let mut evicted = None;
        while evicted.is_none() && beat < 600 {
            beat += 1;
            let heartbeat = format!("2026-01-01T00:{:02}:{:02}Z", beat / 60, beat % 60);
            let status = json!({"status": {"conditions":
                [{"type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat}]}});
            c.admin.patch::<Node>("", "n2", Some("status"), PatchKind::Strategic, &status).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            let pod = c.cache.get::<Pod>("default", "p");
            evicted = pod.filter(|p| machinery::meta::is_deleting(&p.metadata));
        }
        let pod = evicted.expect("it was evicted");
        let condition = machinery::pods::condition(&pod, "DisruptionTarget").expect("it says why");
        assert_eq!(condition.reason.as_deref(), Some("DeletionByTaintManager"));
        assert!(!machinery::pods::is_ready(&pod));
        let node = c.cache.get::<Node>("", "n1").unwrap();
        assert_eq!(node::health::ready(&node), "Unknown");
        let other = c.cache.get::<Node>("", "n2").unwrap();
        assert_eq!(node::health::ready(&other), "True");
    });
}

#[test]
fn the_important_take_the_place_of_the_unimportant() {
    test(async |c| {
        c.node("n1").await;
        c.until("the account", |cache| cache.get::<ServiceAccount>("default", "default")).await;
        c.create::<PriorityClass>(json!({"metadata": {"name": "high"}, "value": 1000})).await;
        let pod = |name: &str, class: &str| {
            json!({"metadata": {"name": name, "namespace": "default", "labels": {"app": "x"}},
            "spec": {"priorityClassName": class,
                "containers": [{"name": "c", "image": "app:1", "resources": {"requests": {"cpu": "3"}}}]}})
        };
        c.create::<Pod>(pod("low", "")).await;
        c.settle("it runs", |cache| {
            cache.get::<Pod>("default", "low").filter(|p| machinery::pods::is_ready(p))
        })
        .await;
        c.create::<PodDisruptionBudget>(json!({"metadata": {"name": "b", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "x"}}, "minAvailable": 1}}))
            .await;
        c.until("its budget counts it", |cache| {
            let budget = cache.get::<PodDisruptionBudget>("default", "b")?;
            (budget.status.as_ref()?.current_healthy == Some(1)).then_some(())
        })
        .await;
        c.create::<Pod>(pod("high", "high")).await;
        c.settle("it has taken its place", |cache| {
            let high = cache.get::<Pod>("default", "high")?;
            (cache.get::<Pod>("default", "low").is_none() && machinery::pods::node_name(&high) == "n1")
                .then_some(())
        })
        .await;
    });
}

#[test]
fn all_that_follows_hangs_below_the_write_that_caused_it() {
    test(async |c| {
        c.node("n1").await;
        c.until("the account", |cache| cache.get::<ServiceAccount>("default", "default")).await;
        let root = actors::TraceContext::default().child();
        actors::trace::under(root, c.create::<Deployment>(deployment("traced", 1))).await;
        c.until("it is bound", |cache| {
            let pods = cache.list::<Pod>("default");
            pods.iter().any(|p| !machinery::pods::node_name(p).is_empty()).then_some(())
        })
        .await;
        let chain = actors::trace::find(8192, |r| r.context.trace == root.trace);
        for (kind, key) in [
            ("Reconcile", "deployments/default/traced"),
            ("Reconcile", "replicasets/default/traced-"),
            ("Try", "pods/default/traced-"),
            ("Bind", "pods/default/traced-"),
        ] {
            let found = chain
                .iter()
                .any(|r| *r.kind == *kind && r.key.as_deref().is_some_and(|k| k.starts_with(key)));
            assert!(found, "no {kind} of {key} in {chain:#?}");
        }
    });
}
