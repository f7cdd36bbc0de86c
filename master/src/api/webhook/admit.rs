//! Admission by webhooks.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;
use protocol::patch::JsonPatch;
use protocol::{ApiError, Resource};
use serde_json::{Value, json};

use super::hooks::{Hook, MutatingHooks, ValidatingHooks};
use super::measured::Outcome;
use crate::api::admission::Write;
use crate::api::cel::value::{Opaque, Value as CelValue};
use crate::api::cel::{Scope, TOTAL_COST_MAX, Type};
use crate::api::object::text;
use crate::api::pipeline::Inner;
use crate::api::policy::forms::{Forms, Seen};
use crate::api::policy::matching::Attempt;
use crate::api::policy::request::{REQUEST, described};
use crate::api::policy::validating::conditions_hold;
use crate::audit::annotations::annotate;
use crate::auth::Attributes;
use crate::cache::Snapshot;
use crate::metrics::waited;

static DYN: Type = Type::Dyn;

/// What a webhook answered.
struct Verdict {
    warnings: Vec<String>,
    patch: Option<JsonPatch>,
}

impl Inner {
    /// Whether any webhook is asked about writes.
    pub fn has_webhooks(&self, snapshot: &Snapshot) -> bool {
        !self.cache.derived_at::<MutatingHooks>(snapshot).0.is_empty()
            || !self.cache.derived_at::<ValidatingHooks>(snapshot).0.is_empty()
    }

    /// Lets webhooks change an object, one after the other; `null` for deletions, which they can only refuse.
    pub async fn call_mutating(&self, write: &mut Write<'_>, object: &mut Value) -> Result<(), ApiError> {
        let hooks = self.cache.derived_at::<MutatingHooks>(write.snapshot);
        if hooks.0.is_empty() || !self.config.admission.is_on("MutatingAdmissionWebhook") {
            return Ok(());
        }
        // What each hook left behind: those that want to, see once more what others changed since.
        let mut left: Vec<Option<Value>> = vec![None; hooks.0.len()];
        for again in [false, true] {
            for (i, hook) in hooks.0.iter().enumerate() {
                let wanted = match (&left[i], again) {
                    (_, false) => true,
                    (Some(left), true) => hook.reinvoked && *left != *object,
                    (None, true) => false,
                };
                let form = hook.matcher.matches(&Attempt::of(write, given(object))).filter(|_| wanted);
                let Some(form) = form else { continue };
                let seen = self.seen(write, form, given(object)).await.map_err(unconverted)?;
                let asked = waited::wait(self.ask_hook(hook, write, form, &seen)).await?;
                let Some(verdict) = asked else { continue };
                let mut changed = seen.object.clone().into_owned();
                write.warnings.extend(verdict.warnings);
                if let Some(patch) = verdict.patch {
                    patch.apply(&mut changed).map_err(|e| failed(hook, &e))?;
                }
                if changed != *seen.object {
                    *object = self.meant(write, form, object, changed).await.map_err(unconverted)?;
                }
                left[i] = Some(object.clone());
            }
        }
        Ok(())
    }

    /// Lets webhooks refuse an object; `None` for deletions.
    pub async fn call_validating(
        &self,
        write: &mut Write<'_>,
        object: Option<&Value>,
    ) -> Result<(), ApiError> {
        if !self.config.admission.is_on("ValidatingAdmissionWebhook") {
            return Ok(());
        }
        let hooks = self.cache.derived_at::<ValidatingHooks>(write.snapshot);
        let matched: Vec<(&Hook, &'static Resource)> = {
            let attempt = Attempt::of(write, object);
            let meant = |hook: &'_ Arc<Hook>| hook.matcher.matches(&attempt);
            hooks.0.iter().filter_map(|hook| Some((&**hook, meant(hook)?))).collect()
        };
        let mut forms = Forms::default();
        for (_, form) in &matched {
            forms.make(self, write, form, object).await;
        }
        let asked = {
            let (write, forms) = (&*write, &forms);
            waited::wait(join_all(matched.into_iter().map(|(hook, form)| async move {
                match forms.get(form) {
                    Some(Ok(seen)) => self.ask_hook(hook, write, form, seen).await,
                    Some(Err(why)) => Err(unconverted(why.clone())),
                    None => Ok(None),
                }
            })))
            .await
        };
        for verdict in asked {
            write.warnings.extend(verdict?.into_iter().flat_map(|v| v.warnings));
        }
        Ok(())
    }

    /// Asks a webhook, if its conditions hold, about a request that is one for it.
    async fn ask_hook(
        &self,
        hook: &Hook,
        write: &Write<'_>,
        form: &Resource,
        seen: &Seen<'_>,
    ) -> Result<Option<Verdict>, ApiError> {
        let question = {
            let attempt = Attempt::of(write, Some(&*seen.object).filter(|object| !object.is_null()));
            let mut request = described(write.request, &attempt, form);
            let (new, old) = (&*seen.object, &*seen.old);
            match self.hook_wanted(hook, write, &request, new, old) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(_) if !hook.fails => return Ok(None),
                Err(why) => {
                    let resource = write.subject.resource;
                    return Err(ApiError::forbidden(resource.group, resource.plural, attempt.name, &why));
                }
            }
            if write.request.options.dry_run && !hook.dry_runs {
                let why = format!("admission webhook {:?} does not support dry run", hook.name);
                return Err(ApiError::bad_request(why));
            }
            request["uid"] = uuid::Uuid::new_v4().to_string().into();
            request["object"] = new.clone();
            request["oldObject"] = old.clone();
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
        };
        let (uid, begun) = (question["request"]["uid"].clone(), Instant::now());
        let called = self.webhooks.call(&hook.place, hook.timeout_seconds, &question).await;
        let took = begun.elapsed();
        let code = called.as_ref().err().map_or(500, |error| error.code);
        let response = called.map_err(|why| format!("failed to call webhook: {why}")).and_then(|review| {
            let response = review["response"].clone();
            if review["kind"] != "AdmissionReview" || !response.is_object() {
                return Err("received invalid webhook response: webhook response was absent".to_owned());
            }
            if response["uid"] != uid {
                let got = text(&response, &["uid"]);
                return Err(format!(
                    "received invalid webhook response: expected response.uid={uid}, got {got:?}"
                ));
            }
            Ok(response)
        });
        let outcome = match &response {
            Ok(response) if response["allowed"] == true => Outcome::Allowed,
            Ok(response) => Outcome::Denied(denial_code(&response["status"])),
            Err(_) => Outcome::Failed { code, open: !hook.fails },
        };
        self.hook_metrics.called(hook, Attempt::of(write, None).operation, took, outcome);
        match response {
            Ok(response) => {
                for (key, value) in response["auditAnnotations"].as_object().into_iter().flatten() {
                    annotate(&format!("{}/{key}", hook.name), value.as_str().unwrap_or_default());
                }
                match response["allowed"] == true {
                    true => verdict(hook, &response).map(Some),
                    false => Err(denied(hook, &response["status"])),
                }
            }
            Err(why) if hook.fails => Err(failed(hook, &why)),
            Err(why) => {
                tracing::warn!(webhook = hook.name, why, "a webhook that may be ignored could not be called");
                Ok(None)
            }
        }
    }

    fn hook_wanted(
        &self,
        hook: &Hook,
        write: &Write<'_>,
        request: &Value,
        new: &Value,
        old: &Value,
    ) -> Result<bool, String> {
        if hook.conditions.is_empty() {
            return Ok(true);
        }
        let attributes = Attributes::of(write.request);
        let mut scope = Scope::new([
            ("request", CelValue::of(request, &REQUEST)),
            ("object", CelValue::of(new, &DYN)),
            ("oldObject", CelValue::of(old, &DYN)),
            ("namespaceObject", CelValue::Null),
            ("authorizer", CelValue::Opaque(Opaque::Authorizer(attributes.caller.clone()))),
            ("authorizer.requestResource", CelValue::Opaque(Opaque::Check(attributes.into()))),
        ]);
        scope.ask = Some(&*self.authorizer);
        let mut budget = TOTAL_COST_MAX;
        conditions_hold(&hook.conditions, &scope, &mut budget)
    }
}

/// An object that is there.
fn given(object: &Value) -> Option<&Value> {
    Some(object).filter(|object| !object.is_null())
}

/// Warnings that a webhook may give.
const WARNINGS_MAX: usize = 16;

fn verdict(hook: &Hook, response: &Value) -> Result<Verdict, ApiError> {
    let warnings = response["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let warnings = warnings.take(WARNINGS_MAX).map(str::to_owned).collect();
    let patch = match response["patch"].as_str().filter(|p| !p.is_empty()) {
        None => None,
        Some(_) if response["patchType"] != "JSONPatch" => {
            return Err(failed(
                hook,
                &"received invalid webhook response: webhook returned response.patch but not response.patchType",
            ));
        }
        Some(patch) => {
            let bytes = STANDARD.decode(patch).map_err(|e| failed(hook, &e))?;
            Some(JsonPatch::parse(&bytes).map_err(|e| failed(hook, &e))?)
        }
    };
    Ok(Verdict { warnings, patch })
}

/// The answer where no webhook can be shown the object, as it cannot be converted.
fn unconverted(why: ApiError) -> ApiError {
    ApiError::internal(why)
}

fn failed(hook: &Hook, why: &dyn std::fmt::Display) -> ApiError {
    ApiError::internal(format!("failed calling webhook {:?}: {why}", hook.name))
}

/// The code of a refusal.
fn denial_code(status: &Value) -> u16 {
    status["code"].as_u64().and_then(|c| u16::try_from(c).ok()).filter(|c| *c >= 400).unwrap_or(400)
}

/// The answer to what a webhook refuses.
fn denied(hook: &Hook, status: &Value) -> ApiError {
    let by = format!("admission webhook {:?} denied the request", hook.name);
    let (message, reason) = (text(status, &["message"]), text(status, &["reason"]));
    let message = match (message, reason) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let code = denial_code(status);
    let details = if status["details"].is_object() { status["details"].clone() } else { json!({}) };
    ApiError::about(code, reason, message, details)
}
