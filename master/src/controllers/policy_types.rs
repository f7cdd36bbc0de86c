//! The status of validating admission policies: what is wrong with their expressions for the kinds that they are
//! about. It warns; what a policy does is not changed by it.

use k8s_openapi::Resource;
use k8s_openapi::api::admissionregistration::v1::{
    ExpressionWarning, TypeChecking, ValidatingAdmissionPolicy,
};
use serde_json::json;

use super::machinery::watches::own;
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use crate::api::custom::Catalog;
use crate::api::policy::type_check;

/// The controller.
pub struct PolicyTypeController;

impl Reconciler for PolicyTypeController {
    const NAME: &'static str = "validatingadmissionpolicy_status";
    const ACCOUNT: &'static str = "validatingadmissionpolicy-status-controller";
    const RESOURCE: &'static str = "validatingadmissionpolicies";

    fn watches(&self) -> Vec<Watch> {
        vec![own::<ValidatingAdmissionPolicy>()]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(policy) = cx.cache.get::<ValidatingAdmissionPolicy>("", &key.name) else {
            return Ok(Outcome::DONE);
        };
        let generation = policy.metadata.generation;
        let observed = policy.status.as_ref().and_then(|status| status.observed_generation);
        if observed >= generation {
            return Ok(Outcome::DONE);
        }
        let value = serde_json::to_value(&*policy).map_err(|e| ReconcileError::Other(e.to_string()))?;
        let found = type_check::warnings(&cx.cache.derived::<Catalog>(), &value);
        let warnings: Vec<ExpressionWarning> = found
            .into_iter()
            .map(|warning| ExpressionWarning { field_ref: warning.field, warning: warning.text })
            .collect();
        let expression_warnings = Some(warnings).filter(|all| !all.is_empty());
        let wanted = json!({
            "apiVersion": ValidatingAdmissionPolicy::API_VERSION, "kind": ValidatingAdmissionPolicy::KIND,
            "metadata": {"name": policy.metadata.name},
            "status": {"observedGeneration": generation, "typeChecking": TypeChecking { expression_warnings }},
        });
        let manager = "validatingadmissionpolicy-status";
        cx.client.apply::<ValidatingAdmissionPolicy>("", &key.name, Some("status"), manager, &wanted).await?;
        Ok(Outcome::DONE)
    }
}
