//! How much of a shared device's capacity a claim may ask for: some amounts, or a range of them.

use std::collections::HashSet;

use protocol::Quantity;
use serde_json::Value;

use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::amount;
use crate::api::object::list;

const AMOUNTS_MAX: usize = 10;

/// Checks what may be asked of a capacity.
pub(super) fn request_policy(capacity: &Value, policy: &Value, path: &Path, errors: &mut Errors) {
    let (amounts, range) = (list(policy, &["validValues"]), &policy["validRange"]);
    let field = match (amounts.is_empty(), range.is_null()) {
        (false, false) => {
            let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            return errors.forbidden(path, detail);
        }
        (false, true) => "validValues",
        (true, false) => "validRange",
        (true, true) => return,
    };
    let Some(default) = amount(&policy["default"]) else {
        return errors.required(&path.child("default"), &format!("required when {field} is defined"));
    };
    let capacity = amount(capacity).unwrap_or_else(|| Quantity::from_units(0));
    if range.is_null() {
        self::amounts(amounts, &default, &capacity, &path.child(field), errors);
    } else {
        self::range(range, &default, &capacity, &path.child(field), errors);
    }
}

fn amounts(given: &[Value], default: &Quantity, capacity: &Quantity, path: &Path, errors: &mut Errors) {
    let amounts: Vec<Quantity> = given.iter().filter_map(amount).collect();
    for (i, pair) in amounts.windows(2).enumerate() {
        if let [one, next] = pair
            && one > next
        {
            errors.invalid(&path.index(i + 1), next.to_string(), "values must be sorted in ascending order");
        }
    }
    if amounts.len() > AMOUNTS_MAX {
        errors.too_many(path, amounts.len(), AMOUNTS_MAX);
    } else {
        for (i, amount) in amounts.iter().enumerate().filter(|(_, amount)| *amount > capacity) {
            let detail = format!("option is larger than capacity value: {capacity}");
            errors.invalid(&path.index(i), amount.to_string(), detail);
        }
        let mut seen = HashSet::new();
        for (i, amount) in amounts.iter().enumerate() {
            if !seen.insert(amount.units()) {
                errors.duplicate(&path.index(i), amount.units().to_string());
            }
        }
    }
    if amounts.len() > AMOUNTS_MAX || !amounts.contains(default) {
        let detail = "default value is not valid according to the requestPolicy";
        errors.invalid(path, default.to_string(), detail);
    }
}

fn range(range: &Value, default: &Quantity, capacity: &Quantity, path: &Path, errors: &mut Errors) {
    let Some(min) = amount(&range["min"]) else {
        return errors.required(&path.child("min"), "required when validRange is defined");
    };
    let (max, step) = (amount(&range["max"]), amount(&range["step"]));
    let mut wrong = |is: bool, field: &str, shown: &Quantity, detail: String| {
        if is {
            errors.invalid(&path.child(field), shown.to_string(), detail);
        }
    };
    wrong(min > *capacity, "min", &min, format!("min is larger than capacity value: {capacity}"));
    wrong(*default < min, "min", default, format!("default is less than min: {min}"));
    if let Some(max) = &max {
        wrong(min > *max, "max", &min, format!("min is larger than max: {max}"));
        wrong(max > capacity, "max", max, format!("max is larger than capacity value: {capacity}"));
        wrong(default > max, "max", default, format!("default is more than max: {max}"));
    }
    let Some(step) = &step else { return };
    let first = min + *step;
    let detail = format!("one step {first} is larger than capacity value: {capacity}");
    wrong(first > *capacity, "step", step, detail);
    for value in [Some(default), max.as_ref()].into_iter().flatten() {
        // A step of nothing has no multiples; upstream does not survive one.
        let off = value.units().saturating_sub(min.units()).checked_rem(step.units()).is_none_or(|r| r != 0);
        let detail = format!("value is not a multiple of a given step ({step}) from ({min})");
        wrong(off, "step", value, detail);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::invalid::said;

    #[test]
    fn what_may_be_asked_for_is_told_exactly() {
        for (policy, wanted) in [
            (json!({}), vec![]),
            (json!({"default": "1", "validValues": ["1", "2"]}), vec![]),
            (
                json!({"validValues": ["1"]}),
                vec!["p.default: Required value: required when validValues is defined"],
            ),
            (
                json!({"default": "3", "validValues": ["2", "1", "20"]}),
                vec![
                    "p.validValues[1]: Invalid value: \"1\": values must be sorted in ascending order",
                    "p.validValues[2]: Invalid value: \"20\": option is larger than capacity value: 10",
                    "p.validValues: Invalid value: \"3\": default value is not valid according to the requestPolicy",
                ],
            ),
            (
                json!({"default": "2", "validRange": {}}),
                vec!["p.validRange.min: Required value: required when validRange is defined"],
            ),
            (
                json!({"default": "3", "validRange": {"min": "2", "max": "6", "step": "2"}}),
                vec![
                    "p.validRange.step: Invalid value: \"3\": value is not a multiple of a given step (2) from (2)",
                ],
            ),
            (
                json!({"default": "1", "validRange": {"min": "2"}}),
                vec!["p.validRange.min: Invalid value: \"1\": default is less than min: 2"],
            ),
        ] {
            let told = said(|errors| request_policy(&json!("10"), &policy, &Path::new("p"), errors));
            assert_eq!(told, wanted, "{policy}");
        }
    }
}
