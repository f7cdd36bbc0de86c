//! The webhooks that are configured, compiled once per change.

use std::sync::Arc;

use serde_json::Value;

use super::client::Place;
use super::review::Version;
use crate::api::cel::Program;
use crate::api::object::{self, list, text};
use crate::api::policy::GROUP;
use crate::api::policy::compiled::Expression;
use crate::api::policy::matching::Matcher;
use crate::api::policy::request::environment;
use crate::cache::{Derived, Snapshot};

/// One webhook.
pub struct Hook {
    /// Its name, which refusals tell.
    pub name: String,
    /// The configuration that it is in.
    pub configuration: Arc<str>,
    /// It is there to change objects, not only to refuse them.
    pub mutating: bool,
    /// The version of the reviews that it is sent.
    pub review: Version,
    /// Where it is.
    pub place: Place,
    /// What it is called for.
    pub matcher: Matcher,
    /// What must hold for it to be called.
    pub conditions: Vec<(String, Expression)>,
    /// Refuse where it cannot be called.
    pub fails: bool,
    /// Seconds that it has.
    pub timeout_seconds: u64,
    /// It may be called in a dry run.
    pub dry_runs: bool,
    /// It wants to see what those after it changed.
    pub reinvoked: bool,
}

/// Webhooks that change objects.
#[derive(Default)]
pub struct MutatingHooks(pub Vec<Arc<Hook>>);

/// Webhooks that refuse objects.
#[derive(Default)]
pub struct ValidatingHooks(pub Vec<Arc<Hook>>);

impl Derived for MutatingHooks {
    const KINDS: &'static [(&'static str, &'static str)] = &[(GROUP, "mutatingwebhookconfigurations")];

    fn derive(_: Option<&Self>, snapshot: &Snapshot) -> Self {
        MutatingHooks(hooks(snapshot, "mutatingwebhookconfigurations", true))
    }
}

impl Derived for ValidatingHooks {
    const KINDS: &'static [(&'static str, &'static str)] = &[(GROUP, "validatingwebhookconfigurations")];

    fn derive(_: Option<&Self>, snapshot: &Snapshot) -> Self {
        ValidatingHooks(hooks(snapshot, "validatingwebhookconfigurations", false))
    }
}

/// All hooks, in the order of their configurations' names.
fn hooks(snapshot: &Snapshot, plural: &str, mutating: bool) -> Vec<Arc<Hook>> {
    let mut made = Vec::new();
    for stored in snapshot.list(GROUP, plural, "") {
        let Ok(value) = stored.value() else { continue };
        let configuration: Arc<str> = object::name(&value).into();
        let hook = |hook| Arc::new(Hook::of(hook, &configuration, mutating));
        made.extend(list(&value, &["webhooks"]).iter().map(hook));
    }
    made
}

impl Hook {
    /// What metrics call the step of admission that it belongs to.
    pub fn step(&self) -> &'static str {
        if self.mutating { "admit" } else { "validating" }
    }

    /// A webhook of a configuration, compiled.
    pub fn of(hook: &Value, configuration: &Arc<str>, mutating: bool) -> Hook {
        let environment = environment(false);
        let versions = list(hook, &["admissionReviewVersions"]);
        let condition = |c: &Value| {
            let source = text(c, &["expression"]).to_owned();
            let program = Program::compile(&environment, &source);
            (text(c, &["name"]).to_owned(), Expression { source, program })
        };
        Hook {
            name: text(hook, &["name"]).to_owned(),
            configuration: configuration.clone(),
            mutating,
            review: Version::preferred(versions.iter().filter_map(Value::as_str)),
            place: Place::of(&hook["clientConfig"]),
            matcher: Matcher::webhook(hook),
            conditions: list(hook, &["matchConditions"]).iter().map(condition).collect(),
            fails: hook["failurePolicy"] != "Ignore",
            timeout_seconds: hook["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30),
            dry_runs: matches!(text(hook, &["sideEffects"]), "None" | "NoneOnDryRun"),
            reinvoked: hook["reinvocationPolicy"] == "IfNeeded",
        }
    }
}
