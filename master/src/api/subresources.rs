//! Subresources that are calls rather than objects: scale, binding, eviction.

use protocol::{ApiError, ApiRequest, PatchKind, Selector, Verb};
use serde_json::{Value, json};

use super::admission::{Write, calls, pod_topology, with_namespace};
use super::invalid::{Errors, Path, check};
use super::managed::apply;
use super::managed::scale::ScaleTracking;
use super::meta::{self, NameRule};
use super::object::{self, list, text};
use super::pipeline::Inner;
use super::registry::delete::preconditions;
use super::registry::demands::unmet;
use super::registry::part::Part;
use super::registry::patch::apply_patch;
use super::registry::update::check_name;
use super::registry::{Answer, Subject, body, options};

impl Inner {
    /// Reads or writes the `scale` of a workload.
    pub async fn scale(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, ApiError> {
        if request.verb == Verb::Get {
            let snapshot = self.fresh().await?;
            let stored = self.found(&subject, &snapshot).await?;
            let value = subject.opened(&stored)?;
            let scale = match subject.custom.and_then(|custom| custom.scale.as_ref()) {
                Some(paths) => paths.read(&value)?,
                None => scale_of(&value),
            };
            return Ok(Answer { revision: stored.revision, ..Answer::json(200, &scale) });
        }
        let validation = request.options.field_validation.as_deref();
        let given = match request.verb {
            Verb::Update => {
                let scale =
                    body::decode("autoscaling", "v1", "Scale", &request.body, validation, warnings)?.value;
                check_name(&subject, &scale)?;
                Some(scale)
            }
            _ => None,
        };
        let paths = subject.custom.and_then(|custom| custom.scale.as_ref());
        let scale_of = |object: &Value| match paths {
            Some(paths) => paths.read_or_empty(object),
            None => scale_of(object),
        };
        let definition = protocol::schema::kind("autoscaling", "v1", "Scale")
            .ok_or_else(|| ApiError::internal("no field table for Scale"))?;
        let tracking = ScaleTracking::of(request, subject, definition);
        let config = match request.patch {
            Some(PatchKind::Apply) => Some(apply::config::read(&request.body)?),
            _ => None,
        };
        let answer = self
            .rewrite(request, subject, Part::Main, warnings, |old, said| {
                let mut before = scale_of(old);
                tracking.show(old, &mut before)?;
                let scale = match (&given, &config) {
                    (Some(scale), _) => {
                        let mut scale = scale.clone();
                        tracking.update(&before, &mut scale);
                        scale
                    }
                    (None, Some(config)) => {
                        let scale = tracking.apply(&before, &config.value, request.options.force)?;
                        apply::config::strict(config, validation, said)?;
                        scale
                    }
                    (None, None) => {
                        let kind = request.patch.unwrap_or(PatchKind::Merge);
                        let shown = || before.clone();
                        let mut scale =
                            apply_patch(definition, kind, shown, &request.body, validation, said)?.0.value;
                        tracking.update(&before, &mut scale);
                        scale
                    }
                };
                check_name(&subject, &scale)?;
                let uid = text(&scale, &["metadata", "uid"]);
                let stored_uid = text(old, &["metadata", "uid"]);
                if !uid.is_empty() && uid != stored_uid {
                    // A replacement is about what has the scale, and a patch about the scale, as the words have it.
                    if given.is_some() {
                        return Err(unmet(&subject, "UID", uid, stored_uid, request.options.dry_run));
                    }
                    let why = format!(
                        "Precondition failed: UID in precondition: {uid}, UID in object meta: {stored_uid}"
                    );
                    let resource = subject.resource;
                    let plural = format!("{}/scale", resource.plural);
                    return Err(ApiError::conflict(resource.group, &plural, subject.name, &why));
                }
                let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
                let mut errors = Errors::default();
                if replicas < 0 && paths.is_none() {
                    errors.invalid(
                        &Path::new("spec.replicas"),
                        replicas,
                        "must be greater than or equal to 0",
                    );
                }
                // Scales of declared kinds are not looked at.
                if paths.is_none() {
                    let mut said = scale["metadata"].clone();
                    said["namespace"] = subject.namespace.into();
                    let at = Path::new("metadata");
                    let namespaced = subject.resource.namespaced;
                    meta::validate(&said, namespaced, NameRule::Subdomain, false, &at, &mut errors);
                }
                check(errors, "autoscaling", "Scale", subject.name)?;
                let mut new = old.clone();
                match paths {
                    Some(paths) => paths.write(&mut new, replicas),
                    None => new["spec"]["replicas"] = replicas.into(),
                }
                new["metadata"]["resourceVersion"] = scale["metadata"]["resourceVersion"].clone();
                tracking.hand_down(&scale, &mut new)?;
                Ok(new)
            })
            .await?;
        let value: Value = serde_json::from_slice(&answer.body).map_err(ApiError::internal)?;
        Ok(Answer { revision: answer.revision, ..Answer::json(200, &scale_of(&value)) })
    }

    /// Binds a pod to a node (`pods/binding`, or the older `bindings`).
    pub async fn bind(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, ApiError> {
        let validation = request.options.field_validation.as_deref();
        let mut binding = body::decode("", "v1", "Binding", &request.body, validation, warnings)?.value;
        in_namespace(&binding, subject)?;
        let snapshot = with_namespace(self, self.recent().await?, subject.namespace).await?;
        let mut write =
            Write { request, subject, old: None, snapshot: &snapshot, warnings, given_empty: None };
        calls::mutate(self, &mut write, &mut binding).await?;
        let pods = protocol::resources::find("", "v1", "pods").ok_or_else(super::registry::not_served)?;
        let name =
            if subject.name.is_empty() { object::name(&binding).to_owned() } else { subject.name.to_owned() };
        if object::name(&binding) != name {
            return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
        }
        let pod = Subject::new(pods, subject.namespace, &name)?;
        let target = text(&binding, &["target", "name"]).to_owned();
        let kind = text(&binding, &["target", "kind"]);
        let mut errors = Errors::default();
        if !kind.is_empty() && kind != "Node" {
            errors.unsupported(&Path::new("target.kind"), kind, &["Node", "<empty>"]);
        }
        if target.is_empty() {
            errors.required(&Path::new("target.name"), "");
        }
        if let Some(why) = errors.text() {
            // Upstream makes no refusal of it.
            return Err(ApiError::new(500, "", why));
        }
        calls::validate(self, &mut write, &binding).await?;
        if name.is_empty() {
            return Err(ApiError::bad_request("Name parameter required."));
        }
        let annotations = binding["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
        let given_labels = binding["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        let wanted = ["uid", "resourceVersion"].map(|name| text(&binding, &["metadata", name]).to_owned());
        let labels = pod_topology::labels_of(&self.cache.snapshot(), &target);
        let refuse = |why: String| ApiError::conflict("", "pods/binding", &name, &why);
        self.rewrite_raw(request, pod, |old, revision| {
            for (what, wanted, found) in [
                ("UID", &wanted[0], text(old, &["metadata", "uid"]).to_owned()),
                ("ResourceVersion", &wanted[1], revision.to_string()),
            ] {
                if !wanted.is_empty() && *wanted != found {
                    return Err(unmet(&pod, what, wanted, &found, false));
                }
            }
            if object::is_deleting(old) {
                return Err(refuse(format!("pod {name} is being deleted, cannot be assigned to a host")));
            }
            let node = text(old, &["spec", "nodeName"]);
            if !node.is_empty() {
                return Err(refuse(format!("pod {name} is already assigned to node {node:?}")));
            }
            if !list(old, &["spec", "schedulingGates"]).is_empty() {
                return Err(refuse(format!("pod {name} has non-empty .spec.schedulingGates")));
            }
            let mut new = old.clone();
            new["spec"]["nodeName"] = target.clone().into();
            for (key, value) in &annotations {
                object::object_mut(&mut new, &["metadata", "annotations"]).insert(key.clone(), value.clone());
            }
            for (key, value) in &given_labels {
                object::object_mut(&mut new, &["metadata", "labels"]).insert(key.clone(), value.clone());
            }
            for (key, value) in &labels {
                let all = object::object_mut(&mut new, &["metadata", "labels"]);
                all.insert((*key).to_owned(), value.as_str().into());
            }
            set_condition(&mut new, json!({"type": "PodScheduled", "status": "True"}));
            // What was kept for it is its own now.
            if let Some(status) = object::existing_mut(&mut new, &["status"]) {
                status.remove("nominatedNodeName");
            }
            Ok(new)
        })
        .await?;
        Ok(success(201))
    }

    /// Evicts a pod, if its disruption budgets allow.
    pub async fn evict(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, ApiError> {
        let validation = request.options.field_validation.as_deref();
        let mut eviction = eviction_of(&request.body, validation, warnings)?;
        in_namespace(&eviction, subject)?;
        let snapshot = self.fresh().await?;
        super::admission::node_restriction::eviction(&snapshot, request, &subject)?;
        let mut write =
            Write { request, subject, old: None, snapshot: &snapshot, warnings, given_empty: None };
        calls::mutate(self, &mut write, &mut eviction).await?;
        if object::name(&eviction) != subject.name {
            return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
        }
        let options = &eviction["deleteOptions"];
        let dry = list(options, &["dryRun"]);
        if !dry.iter().all(|d| d == "All") {
            let mut errors = Errors::default();
            errors.unsupported(&Path::new("dryRun"), dry.to_vec(), &["All"]);
            check(errors, "meta.k8s.io", "DeleteOptions", "")?;
        }
        let mut delete = request.clone();
        delete.verb = Verb::Delete;
        delete.options.grace_period_seconds = options["gracePeriodSeconds"].as_i64();
        delete.options.precondition_uid = options["preconditions"]["uid"].as_str().map(str::to_owned);
        delete.options.precondition_resource_version =
            options["preconditions"]["resourceVersion"].as_str().map(str::to_owned);
        delete.options.propagation_policy = options["propagationPolicy"].as_str().map(str::to_owned);
        delete.options.orphan_dependents = options["orphanDependents"].as_bool();
        delete.options.dry_run |= list(options, &["dryRun"]).iter().any(|d| d == "All");

        let stored = subject.find(&snapshot).ok_or_else(|| subject.not_found())?;
        calls::validate(self, &mut write, &eviction).await?;
        let pod = stored.value().map_err(ApiError::internal)?;
        let phase = text(&pod, &["status", "phase"]);
        let free = matches!(phase, "Succeeded" | "Failed" | "Pending") || stored.meta.is_deleting();
        if !free {
            let budgets: Vec<Value> = snapshot
                .list("policy", "poddisruptionbudgets", subject.namespace)
                .filter_map(|s| s.value().ok())
                .filter(|b| selects(b, &pod))
                .collect();
            match budgets.as_slice() {
                [] => {}
                [budget] => self.take_disruption(request, budget, &pod, delete.options.dry_run).await?,
                _ => {
                    let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                    return Err(ApiError::new(500, "", why));
                }
            }
        }
        if !delete.options.dry_run {
            self.disrupt(&mut delete, subject).await?;
        }
        options::check_propagation(&delete.options)?;
        self.delete(&delete, subject, warnings).await?;
        Ok(success(201))
    }

    /// Says of a pod that it goes because it was evicted. What the deletion demands of the pod holds before that.
    async fn disrupt(&self, delete: &mut ApiRequest, subject: Subject<'_>) -> Result<(), ApiError> {
        let demanded = delete.clone();
        let answer = self
            .rewrite_raw(delete, subject, |old, revision| {
                preconditions(&demanded, &subject, text(old, &["metadata", "uid"]), revision)?;
                let mut new = old.clone();
                set_condition(
                    &mut new,
                    json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                        "message": "Eviction API: evicting"}),
                );
                Ok(new)
            })
            .await?;
        if let Some(version) = &mut delete.options.precondition_resource_version {
            *version = answer.revision.to_string();
        }
        Ok(())
    }

    /// Takes one disruption off a budget, or refuses with 429.
    async fn take_disruption(
        &self,
        request: &ApiRequest,
        budget: &Value,
        pod: &Value,
        dry: bool,
    ) -> Result<(), ApiError> {
        let ready = list(pod, &["status", "conditions"])
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True");
        let healthy = budget["status"]["currentHealthy"].as_i64().unwrap_or(0);
        let desired = budget["status"]["desiredHealthy"].as_i64().unwrap_or(0);
        let always = text(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
        // A pod that is not ready does not count: it may go, unless the budget needs every healthy one.
        if !ready && (always || (healthy >= desired && desired > 0)) {
            return Ok(());
        }
        let resource = protocol::resources::find("policy", "v1", "poddisruptionbudgets")
            .ok_or_else(super::registry::not_served)?;
        let (namespace, name) = (object::namespace(budget).to_owned(), object::name(budget).to_owned());
        let subject = Subject::new(resource, &namespace, &name)?;
        let pod_name = object::name(pod).to_owned();
        let refuse = |message: String| {
            let why = "Cannot evict pod as it would violate the pod's disruption budget.";
            let details = json!({"causes": [{"reason": "DisruptionBudget", "message": message}]});
            ApiError::about(429, "TooManyRequests", why, details)
        };
        let mut quiet = request.clone();
        quiet.options.dry_run = dry;
        self.rewrite_raw(&quiet, subject, |old, _| {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            let observed = old["status"]["observedGeneration"].as_i64().unwrap_or(0);
            if observed < generation {
                let message = format!("The disruption budget {name} is still being processed by the server.");
                return Err(refuse(message));
            }
            let allowed = old["status"]["disruptionsAllowed"].as_i64().unwrap_or(0);
            if allowed <= 0 {
                let (need, have) = (
                    old["status"]["desiredHealthy"].as_i64().unwrap_or(0),
                    old["status"]["currentHealthy"].as_i64().unwrap_or(0),
                );
                if have > need {
                    let message =
                        format!("The disruption budget {name} does not allow evicting pods currently");
                    return Err(refuse(message));
                }
                return Err(refuse(format!(
                    "The disruption budget {name} needs {need} healthy pods and has {have} currently"
                )));
            }
            let mut new = old.clone();
            new["status"]["disruptionsAllowed"] = (allowed - 1).into();
            object::object_mut(&mut new, &["status", "disruptedPods"])
                .insert(pod_name.clone(), object::now().into());
            Ok(new)
        })
        .await
        .map(drop)
    }

    /// Rewrites an object as the server itself, without the checks of a client's update. `produce` is given the object and
    /// its revision.
    async fn rewrite_raw(
        &self,
        request: &ApiRequest,
        subject: Subject<'_>,
        mut produce: impl FnMut(&Value, u64) -> Result<Value, ApiError>,
    ) -> Result<Answer, ApiError> {
        use crate::store::{Compare, Txn, TxnResult};
        for _ in 0..super::registry::RETRIES_MAX {
            let snapshot = self.fresh().await?;
            let stored = subject.find(&snapshot).ok_or_else(|| subject.not_found())?;
            let old = stored.value().map_err(ApiError::internal)?;
            let new = produce(&old, stored.revision)?;
            if request.options.dry_run {
                return Ok(success(200));
            }
            let (sealed, json) = super::registry::seal(&subject, new);
            let compare = Compare { key: subject.key(), mod_revision: stored.revision };
            let op = self.put(&subject, &sealed, &json).await?;
            let txn = Txn { compares: vec![compare], ops: vec![op], ..Txn::default() };
            if let TxnResult::Committed { revision } = self.commit(txn).await? {
                return Ok(Answer { code: 200, body: json, revision });
            }
        }
        Err(ApiError::conflict(
            subject.resource.group,
            subject.resource.plural,
            subject.name,
            "too many conflicting writes",
        ))
    }
}

/// Checks that what is called lies in the namespace that the call is for, if it says where.
fn in_namespace(called: &Value, subject: Subject<'_>) -> Result<(), ApiError> {
    let said = object::namespace(called);
    if said.is_empty() || said == subject.namespace {
        return Ok(());
    }
    let why = "the namespace of the provided object does not match the namespace sent on the request";
    Err(ApiError::bad_request(why))
}

/// Reads an eviction, also one of the version that was there before.
fn eviction_of(text: &[u8], validation: Option<&str>, warnings: &mut Vec<String>) -> Result<Value, ApiError> {
    let read = match serde_json::from_slice::<Value>(text) {
        Ok(mut former) if former["apiVersion"] == "policy/v1beta1" && former["kind"] == "Eviction" => {
            former["apiVersion"] = "policy/v1".into();
            body::decode("policy", "v1", "Eviction", former.to_string().as_bytes(), validation, warnings)
        }
        _ => body::decode("policy", "v1", "Eviction", text, validation, warnings),
    };
    read.map(|sent| sent.value)
}

/// The Scale that a workload shows.
pub fn scale_of(object: &Value) -> Value {
    let mut meta = json!({});
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(name) {
            meta[name] = value.clone();
        }
    }
    let selector = &object["spec"]["selector"];
    // A ReplicationController's selector is a plain map.
    let plain =
        selector.is_object() && selector["matchLabels"].is_null() && selector["matchExpressions"].is_null();
    let selector = if plain {
        let labels = serde_json::from_value(selector.clone()).unwrap_or_default();
        Some(Selector::from_map(&labels))
    } else {
        serde_json::from_value(selector.clone()).ok().and_then(|s| Selector::from_label_selector(&s).ok())
    };
    let mut status = json!({"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)});
    if let Some(text) = selector.map(|s| s.to_string()).filter(|s| !s.is_empty()) {
        status["selector"] = text.into();
    }
    let mut spec = json!({});
    if let Some(replicas) = object["spec"]["replicas"].as_i64().filter(|r| *r != 0) {
        spec["replicas"] = replicas.into();
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta, "spec": spec, "status": status})
}

fn success(code: u16) -> Answer {
    Answer::json(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}),
    )
}

fn selects(budget: &Value, pod: &Value) -> bool {
    let labels = &pod["metadata"]["labels"];
    let selector = serde_json::from_value(budget["spec"]["selector"].clone()).ok();
    let selector = selector.and_then(|s| Selector::from_label_selector(&s).ok());
    selector.is_some_and(|s| s.matches_by(|key| labels.get(key).and_then(Value::as_str)))
}

/// Sets a condition of a pod's status, with the time of its change.
fn set_condition(pod: &mut Value, mut condition: Value) {
    let mut conditions = list(pod, &["status", "conditions"]).to_vec();
    let same = |c: &&Value| c["type"] == condition["type"] && c["status"] == condition["status"];
    let since = conditions.iter().find(same).map(|c| c["lastTransitionTime"].clone());
    conditions.retain(|c| c["type"] != condition["type"]);
    condition["lastTransitionTime"] = since.unwrap_or_else(|| object::now().into());
    condition["lastProbeTime"] = Value::Null;
    conditions.push(condition);
    pod["status"]["conditions"] = conditions.into();
}
