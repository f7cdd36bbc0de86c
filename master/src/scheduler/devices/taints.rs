//! Taints of devices, and who tolerates them.

use k8s_openapi::api::resource::v1::{DeviceTaint, DeviceToleration};

/// Whether a taint keeps a request off a device.
pub(super) fn repels(taint: &DeviceTaint, tolerations: &[DeviceToleration]) -> bool {
    matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
        && !tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

fn tolerates(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let said = |s: &Option<String>| s.clone().filter(|s| !s.is_empty());
    if said(&toleration.effect).is_some_and(|effect| effect != taint.effect)
        || said(&toleration.key).is_some_and(|key| key != taint.key)
    {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => said(&toleration.value) == said(&taint.value),
        "Exists" => true,
        _ => false,
    }
}
