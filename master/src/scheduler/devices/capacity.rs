//! How much of a device a request takes, and whether so much is left.

use k8s_openapi::api::resource::v1::{CapacityRequestPolicy, Device, DeviceCapacity};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use protocol::Quantity;

use super::taken::Amounts;

fn read(text: &Text) -> Quantity {
    text.0.parse().unwrap_or_default()
}

/// What a request takes of a device; `None` where it asks for what the device does not have, or not in that way.
pub fn consumed(device: &Device, asked: Option<&Amounts>) -> Option<Amounts> {
    let capacity = device.capacity.as_ref();
    let has = |name: &String| capacity.is_some_and(|c| c.contains_key(name));
    if asked.is_some_and(|asked| !asked.keys().all(has)) {
        return None;
    }
    let mut out = Amounts::new();
    for (name, of) in capacity.into_iter().flatten() {
        let amount = take(of, asked.and_then(|a| a.get(name)).copied());
        if of.request_policy.as_ref().is_some_and(|policy| !allows(policy, amount)) {
            return None;
        }
        out.insert(name.clone(), amount);
    }
    Some(out)
}

/// Whether a device has so much left.
pub fn has_room(device: &Device, wants: &Amounts, used: &[Option<&Amounts>]) -> bool {
    device.capacity.iter().flatten().all(|(name, of)| {
        let used = used.iter().flatten().filter_map(|u| u.get(name)).copied();
        let sum = used.fold(wants.get(name).copied().unwrap_or_default(), |a, b| a + b);
        sum <= read(&of.value)
    })
}

/// What a request of an amount, or of none in particular, comes to.
fn take(of: &DeviceCapacity, asked: Option<Quantity>) -> Quantity {
    let policy = of.request_policy.as_ref();
    let Some(asked) = asked else {
        return read(policy.and_then(|p| p.default.as_ref()).unwrap_or(&of.value));
    };
    let Some(policy) = policy else { return asked };
    if let Some(range) = &policy.valid_range {
        let min = read(&range.min);
        return match &range.step {
            _ if asked < min => min,
            None => asked,
            Some(step) => {
                let (step, min) = (read(step).units().max(1), min.units());
                let over = asked.units().saturating_sub(min);
                let steps = over / step + i64::from(over % step != 0);
                Quantity::from_bytes(min.saturating_add(step.saturating_mul(steps)))
            }
        };
    }
    let values = policy.valid_values.iter().flatten().map(read);
    values.into_iter().find(|v| asked <= *v).unwrap_or(asked)
}

fn allows(policy: &CapacityRequestPolicy, amount: Quantity) -> bool {
    if policy.default.as_ref().is_some_and(|d| read(d) == amount) {
        return true;
    }
    if let Some(range) = &policy.valid_range {
        let over = range.max.as_ref().is_some_and(|max| amount > read(max));
        let between = range.step.as_ref().is_some_and(|step| {
            amount.units().saturating_sub(read(&range.min).units()) % read(step).units().max(1) != 0
        });
        return !over && !between;
    }
    let mut values = policy.valid_values.iter().flatten().peekable();
    values.peek().is_none() || values.any(|v| read(v) == amount)
}
