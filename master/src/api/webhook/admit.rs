//! Admission by webhooks.

use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use protocol::{ApiError, Resource};
use serde_json::{Value, json};

use super::hooks::{Hook, MutatingHooks, ValidatingHooks};
use super::measured::Outcome;
use super::review::{self, Answer, Patch, denial_code, denied};
use crate::api::admission::Write;
use crate::api::admission::reinvocation::Reinvocation;
use crate::api::cel::value::{Opaque, Value as CelValue};
use crate::api::cel::{Scope, TOTAL_COST_MAX, Type};
use crate::api::pipeline::Inner;
use crate::api::policy::forms::{Forms, Seen};
use crate::api::policy::matching::Attempt;
use crate::api::policy::request::{REQUEST, described};
use crate::api::policy::validating::conditions_hold;
use crate::audit::annotations::{annotate, annotate_from};
use crate::audit::policy::Level;
use crate::auth::Attributes;
use crate::cache::Snapshot;
use crate::metrics::waited;

static DYN: Type = Type::Dyn;

/// The code that counts answers which cannot be understood.
const UNREADABLE: u16 = 503;

/// What came of asking a webhook.
enum Asked {
    /// It lets the request pass.
    Answered(Answer),
    /// It could not be asked, which is no matter.
    Ignored,
}

/// A webhook in its place among those that are asked.
#[derive(Clone, Copy)]
struct Turn<'a> {
    hook: &'a Hook,
    round: usize,
    index: usize,
}

impl Turn<'_> {
    /// The key of what is noted about this call.
    fn key(self, about: &str) -> String {
        let Turn { round, index, .. } = self;
        format!("{about}webhook.admission.k8s.io/round_{round}_index_{index}")
    }

    /// Notes whether a webhook that is there to change objects did.
    fn tell_changed(self, changed: bool) {
        let Hook { configuration, name, mutating, .. } = self.hook;
        if *mutating {
            annotate_from(Level::Metadata, &self.key("mutation."), || {
                json!({"configuration": **configuration, "webhook": name, "mutated": changed}).to_string()
            });
        }
    }

    /// Notes that the request passes although the webhook could not be asked.
    fn tell_open(self) {
        let step = if self.hook.mutating { "failed-open.mutation." } else { "failed-open.validating." };
        annotate(&self.key(step), &self.hook.name);
    }

    /// An object as the webhook wants it, which is noted.
    fn changed(self, object: &Value, patch: Patch) -> Result<Value, ApiError> {
        let Hook { configuration, name, .. } = self.hook;
        if object.is_null() {
            return Err(ApiError::internal(format!(
                "admission webhook {name:?} attempted to modify the object, which is not supported for this operation"
            )));
        }
        let mut changed = object.clone();
        patch.operations.apply(&mut changed).map_err(ApiError::internal)?;
        annotate_from(Level::Request, &self.key("patch."), || {
            let patch: Value = serde_json::from_slice(&patch.sent).unwrap_or_default();
            json!({"configuration": **configuration, "webhook": name, "patch": patch, "patchType": "JSONPatch"})
                .to_string()
        });
        Ok(changed)
    }
}

impl Inner {
    /// Whether any webhook is asked about writes.
    pub fn has_webhooks(&self, snapshot: &Snapshot) -> bool {
        !self.cache.derived_at::<MutatingHooks>(snapshot).0.is_empty()
            || !self.cache.derived_at::<ValidatingHooks>(snapshot).0.is_empty()
    }

    /// Lets webhooks change an object, one after the other; `null` for deletions, which they can only refuse. In the
    /// second look those are asked that want to see what others changed since.
    pub async fn call_mutating(
        &self,
        write: &mut Write<'_>,
        object: &mut Value,
        looks: &mut Reinvocation,
    ) -> Result<(), ApiError> {
        let hooks = self.cache.derived_at::<MutatingHooks>(write.snapshot);
        if hooks.0.is_empty() || !self.config.admission.is_on("MutatingAdmissionWebhook") {
            return Ok(());
        }
        looks.hooks.begin(object);
        for (i, hook) in hooks.0.iter().enumerate() {
            if looks.is_second() && !looks.hooks.wants(&i) {
                continue;
            }
            let form = hook.matcher.matches(&Attempt::of(write, given(object)));
            let Some(form) = form else { continue };
            let seen = self.seen(write, form, given(object)).await.map_err(unconverted)?;
            let turn = Turn { hook, round: looks.is_second().into(), index: i };
            let Some(answer) = waited::wait(self.ask_hook(turn, write, form, &seen)).await? else { continue };
            let changed = match answer {
                Asked::Answered(answer) => {
                    write.warnings.extend(answer.warnings);
                    answer.patch.map(|patch| turn.changed(&seen.object, patch)).transpose()?
                }
                Asked::Ignored => None,
            };
            let changed = changed.filter(|changed| *changed != *seen.object);
            turn.tell_changed(changed.is_some());
            if let Some(changed) = changed {
                *object = self.meant(write, form, object, changed).await.map_err(unconverted)?;
                looks.hooks.changed();
                looks.require();
            }
            if hook.reinvoked {
                looks.hooks.saw(i);
            }
        }
        looks.hooks.end(object);
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
            waited::wait(join_all(matched.into_iter().enumerate().map(|(index, (hook, form))| async move {
                match forms.get(form) {
                    Some(Ok(seen)) => self.ask_hook(Turn { hook, round: 0, index }, write, form, seen).await,
                    Some(Err(why)) => Err(unconverted(why.clone())),
                    None => Ok(None),
                }
            })))
            .await
        };
        for answer in asked {
            if let Some(Asked::Answered(answer)) = answer? {
                write.warnings.extend(answer.warnings);
            }
        }
        Ok(())
    }

    /// Asks a webhook, if its conditions hold, about a request that is one for it.
    async fn ask_hook(
        &self,
        turn: Turn<'_>,
        write: &Write<'_>,
        form: &Resource,
        seen: &Seen<'_>,
    ) -> Result<Option<Asked>, ApiError> {
        let hook = turn.hook;
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
            hook.review.question(request)
        };
        let (uid, begun) = (&question["request"]["uid"], Instant::now());
        let called = self.webhooks.call(&hook.place, hook.timeout_seconds, &question).await;
        let took = begun.elapsed();
        let code = called.as_ref().map_or_else(|error| error.code, |_| UNREADABLE);
        let answer = called
            .map_err(|why| format!("failed to call webhook: {why}"))
            .and_then(|review| review::read(hook.review, &review, uid, hook.mutating));
        let outcome = match &answer {
            Ok(answer) if answer.allowed => Outcome::Allowed,
            Ok(answer) => Outcome::Denied(denial_code(&answer.status)),
            Err(_) => Outcome::Failed { code, open: !hook.fails },
        };
        self.hook_metrics.called(hook, Attempt::of(write, None).operation, took, outcome);
        match answer {
            Ok(answer) => {
                for (key, value) in &answer.annotations {
                    annotate(&format!("{}/{key}", hook.name), value);
                }
                if !answer.allowed {
                    turn.tell_changed(false);
                    return Err(denied(&hook.name, &answer.status));
                }
                Ok(Some(Asked::Answered(answer)))
            }
            Err(why) if hook.fails => {
                turn.tell_changed(false);
                Err(failed(hook, &why))
            }
            Err(why) => {
                tracing::warn!(webhook = hook.name, why, "a webhook that may be ignored could not be called");
                turn.tell_open();
                Ok(Some(Asked::Ignored))
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

/// The answer where no webhook can be shown the object, as it cannot be converted.
fn unconverted(why: ApiError) -> ApiError {
    ApiError::internal(why)
}

fn failed(hook: &Hook, why: &dyn std::fmt::Display) -> ApiError {
    ApiError::internal(format!("failed calling webhook {:?}: {why}", hook.name))
}
