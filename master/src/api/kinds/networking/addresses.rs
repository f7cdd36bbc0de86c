//! IPAddress and ServiceCIDR.

use serde_json::Value;

use super::spec;
use crate::api::invalid::Errors;
use crate::api::kinds::checks::{self, IMMUTABLE};
use crate::api::kinds::{Strategy, base, keep_metadata};
use crate::api::meta::NameRule;
use crate::api::object::list;

pub(in crate::api::kinds) fn ip_address() -> Strategy {
    Strategy {
        names: NameRule::Address,
        validate: |object, errors| {
            let (parent, path) = (&object["spec"]["parentRef"], spec("parentRef"));
            if parent.is_null() {
                errors.required(&path, "");
                return;
            }
            checks::named_if_set(NameRule::Subdomain, parent, "group", &path, errors);
            checks::required_name(NameRule::PathSegment, parent, "resource", &path, errors);
            checks::required_name(NameRule::PathSegment, parent, "name", &path, errors);
            checks::named_if_set(NameRule::PathSegment, parent, "namespace", &path, errors);
        },
        validate_update: |new, old, errors| {
            checks::immutable_struct(
                "a.networking.v1.ParentReference",
                &new["spec"]["parentRef"],
                &old["spec"]["parentRef"],
                &spec("parentRef"),
                errors,
            );
        },
        ..base()
    }
}

pub(in crate::api::kinds) fn service_cidr() -> Strategy {
    Strategy {
        validate_create: ranges,
        validate_update: |new, old, errors| {
            let (after, before) = (list(new, &["spec", "cidrs"]), list(old, &["spec", "cidrs"]));
            // A second family may come, and none may go.
            let grows = (before.len(), after.len()) == (1, 2);
            if !grows && before.len() != after.len() {
                let shown = if after.is_empty() { Value::Null } else { after.to_vec().into() };
                errors.invalid(&spec("cidrs"), shown, IMMUTABLE);
                return;
            }
            for (i, (is, _)) in after.iter().zip(before).enumerate().filter(|(_, (is, was))| is != was) {
                errors.invalid(&spec("cidrs").index(i), is.clone(), IMMUTABLE);
            }
            // What may not change is not looked at again.
            if grows {
                ranges(new, errors);
            }
        },
        prepare_status: keep_metadata,
        ..base()
    }
}

/// Checks the ranges of a ServiceCIDR: one of each family at most.
fn ranges(object: &Value, errors: &mut Errors) {
    let (ranges, path) = (list(object, &["spec", "cidrs"]), spec("cidrs"));
    if ranges.is_empty() {
        errors.required(&path, "at least one CIDR required");
        return;
    }
    if ranges.len() > 2 {
        let shown = errors.shown_struct(
            &super::Path::new("spec"),
            "a.networking.v1.ServiceCIDRSpec",
            &object["spec"],
        );
        errors.invalid_shown(&path, &shown, "may only hold up to 2 values");
        return;
    }
    for (i, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
        checks::strict_cidr(range, &path.index(i), errors);
    }
    let is_v6 = |range: &Value| Some(checks::parse_cidr(range.as_str()?)?.addr().is_ipv6());
    if let [one, other] = ranges
        && is_v6(one).is_some()
        && is_v6(one) == is_v6(other)
    {
        let detail =
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&path, ranges.to_vec(), detail);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ranges_of_services_only_grow_by_a_family() {
        let ranges = |cidrs: &[&str]| json!({"spec": {"cidrs": cidrs}});
        for (was, is, expected) in [
            (&["10.0.0.0/24"][..], &["10.0.0.0/24", "fd00::/112"][..], vec![]),
            (
                &["10.0.0.0/24"],
                &["10.1.0.0/24"],
                vec!["spec.cidrs[0]: Invalid value: \"10.1.0.0/24\": field is immutable"],
            ),
            (
                &["10.0.0.0/24", "fd00::/112"],
                &["10.1.0.0/24"],
                vec!["spec.cidrs: Invalid value: [\"10.1.0.0/24\"]: field is immutable"],
            ),
        ] {
            let mut errors = Errors::default();
            (service_cidr().validate_update)(&ranges(is), &ranges(was), &mut errors);
            assert_eq!(errors.messages(), expected, "{was:?} {is:?}");
        }
    }

    #[test]
    fn ranges_of_services_are_one_of_a_family() {
        for (cidrs, wrong) in [
            (json!(["10.0.0.0/24", "fd00::/112"]), 0),
            (json!(["10.0.0.0/24", "10.1.0.0/24"]), 1),
            (json!(["x", "x"]), 2),
            (json!(["x", "10.0.0.0/24"]), 1),
            (json!([]), 1),
        ] {
            let mut errors = Errors::default();
            ranges(&json!({"spec": {"cidrs": cidrs}}), &mut errors);
            assert_eq!(errors.len(), wrong, "{:?}", errors.messages());
        }
    }
}
