//! PriorityLevelConfiguration: the shares that levels have and how they queue.

use serde_json::Value;

use super::{conditions, keep_whole_metadata, mandatory, spec};
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::{Strategy, base};
use crate::api::object::{default, name, object_mut, text};

const QUEUES_MAX: i64 = 10_000_000;
const ENTROPY_BITS_MAX: i64 = 60;

pub(in crate::api::kinds) fn priority_level() -> Strategy {
    Strategy {
        defaults: level_defaults,
        prepare_status: keep_whole_metadata,
        validate: |object, errors| {
            let level = &object["spec"];
            let kind = text(level, &["type"]);
            if (name(object) == "exempt") != (kind == "Exempt") {
                let detail = "must be 'Exempt' if and only if `name` is 'exempt'";
                errors.invalid(&spec("type"), kind, detail);
            }
            match kind {
                "Exempt" => {
                    if level["limited"].is_object() {
                        errors.forbidden(&spec("limited"), "must be nil if the type is not Limited");
                    }
                    shares(&level["exempt"], &spec("exempt"), errors);
                    lent(&level["exempt"], &spec("exempt"), errors);
                }
                "Limited" => {
                    if level["exempt"].is_object() {
                        errors.forbidden(&spec("exempt"), "must be nil if the type is Limited");
                    }
                    if level["limited"].is_null() {
                        let detail = "must not be empty when type is Limited";
                        errors.required(&spec("limited"), detail);
                    } else {
                        limited(&level["limited"], &spec("limited"), errors);
                    }
                }
                other => errors.unsupported(&spec("type"), other, &["Exempt", "Limited"]),
            }
            let definition = "a.flowcontrol.v1.PriorityLevelConfigurationSpec";
            mandatory("prioritylevelconfigurations", definition, object, errors);
        },
        validate_status: conditions,
        ..base()
    }
}

fn level_defaults(object: &mut Value) {
    for (kind, shares) in [("limited", 30), ("exempt", 0)] {
        if object["spec"][kind].is_object() {
            let fields = object_mut(object, &["spec", kind]);
            default(fields, "nominalConcurrencyShares", shares);
            default(fields, "lendablePercent", 0);
        }
    }
    if object["spec"]["limited"]["limitResponse"]["queuing"].is_object() {
        let fields = object_mut(object, &["spec", "limited", "limitResponse", "queuing"]);
        for (name, value) in [("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)] {
            if fields.get(name).and_then(Value::as_i64).unwrap_or(0) == 0 {
                fields.insert(name.to_owned(), value.into());
            }
        }
    }
}

fn shares(level: &Value, path: &Path, errors: &mut Errors) {
    if level["nominalConcurrencyShares"].as_i64().is_some_and(|n| n < 0) {
        let path = path.child("nominalConcurrencyShares");
        let detail = "must be a non-negative integer";
        errors.invalid(&path, level["nominalConcurrencyShares"].clone(), detail);
    }
}

fn lent(level: &Value, path: &Path, errors: &mut Errors) {
    if level["lendablePercent"].as_i64().is_some_and(|n| !(0..=100).contains(&n)) {
        let path = path.child("lendablePercent");
        let detail = "must be between 0 and 100, inclusive";
        errors.invalid(&path, level["lendablePercent"].clone(), detail);
    }
}

fn limited(level: &Value, path: &Path, errors: &mut Errors) {
    shares(level, path, errors);
    limit_response(level, path, errors);
    lent(level, path, errors);
    if level["borrowingLimitPercent"].as_i64().is_some_and(|n| n < 0) {
        let path = path.child("borrowingLimitPercent");
        let detail = "if specified, must be a non-negative integer";
        errors.invalid(&path, level["borrowingLimitPercent"].clone(), detail);
    }
}

fn limit_response(level: &Value, path: &Path, errors: &mut Errors) {
    let (response, path) = (&level["limitResponse"], path.child("limitResponse"));
    let at = path.child("queuing");
    match text(response, &["type"]) {
        "Reject" => {
            if !response["queuing"].is_null() {
                let detail = "must be nil if limited.limitResponse.type is not Limited";
                errors.forbidden(&at, detail);
            }
        }
        "Queue" => {
            if response["queuing"].is_null() {
                let detail = "must not be empty if limited.limitResponse.type is Limited";
                errors.required(&at, detail);
            } else {
                queuing(&response["queuing"], &at, errors);
            }
        }
        other => errors.unsupported(&path.child("type"), other, &["Queue", "Reject"]),
    }
}

fn queuing(queuing: &Value, path: &Path, errors: &mut Errors) {
    let number = |name: &str| queuing[name].as_i64().unwrap_or(0);
    if number("queueLengthLimit") <= 0 {
        let path = path.child("queueLengthLimit");
        errors.invalid(&path, number("queueLengthLimit"), "must be positive");
    }
    let (queues, hand) = (number("queues"), number("handSize"));
    if queues <= 0 {
        errors.invalid(&path.child("queues"), queues, "must be positive");
    } else if queues > QUEUES_MAX {
        let detail = format!("must not be greater than {QUEUES_MAX}");
        errors.invalid(&path.child("queues"), queues, detail);
    }
    let at = path.child("handSize");
    if hand <= 0 {
        errors.invalid(&at, hand, "must be positive");
    } else if hand > queues {
        errors.invalid(&at, hand, format!("should not be greater than queues ({queues})"));
    } else {
        let bits = entropy_bits(queues, hand);
        if bits > ENTROPY_BITS_MAX {
            let detail = format!(
                "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than \
                 {ENTROPY_BITS_MAX}"
            );
            errors.invalid(&at, hand, detail);
        }
    }
}

/// How many random bits dealing a hand is said to take: as if each card were dealt from a whole deck.
fn entropy_bits(deck: i64, hand: i64) -> i64 {
    ((deck as f64).log2() * hand as f64).ceil() as i64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::invalid::said;

    #[test]
    fn queues_and_hands_are_bounded_by_what_a_hash_tells_apart() {
        for (queues, hand, wrong) in [
            (64, 8, None),
            (512, 6, None),
            (
                512,
                7,
                Some("required entropy bits of deckSize 512 and handSize 7 should not be greater than 60"),
            ),
            (4, 5, Some("should not be greater than queues (4)")),
            // However large, it is told at once.
            (i32::MAX, i32::MAX, Some("should not be greater than 60")),
        ] {
            let level = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
            let said = said(|errors| queuing(&level, &Path::new("q"), errors));
            let hands: Vec<&String> = said.iter().filter(|text| text.starts_with("q.handSize")).collect();
            assert_eq!(hands.len(), usize::from(wrong.is_some()), "{said:?}");
            assert!(wrong.is_none_or(|wrong| hands[0].ends_with(wrong)), "{said:?}");
        }
    }
}
