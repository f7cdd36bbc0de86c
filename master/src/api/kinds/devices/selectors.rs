//! Which devices satisfy a request: expressions over a device, checked when they are written.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::limited;
use crate::api::cel::types::ObjectType;
use crate::api::cel::{Environment, Program, Type};
use crate::api::invalid::{Errors, Path};
use crate::api::object::text;

const SELECTORS_MAX: usize = 32;
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;

/// What expressions know: the device, with attributes and capacity by domain and name.
static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let by_domain = |of: Type| {
        let named = Type::Map(Arc::new(Type::String), Arc::new(of));
        Type::Map(Arc::new(Type::String), Arc::new(named))
    };
    let fields = [
        ("driver", Type::String),
        ("attributes", by_domain(Type::Dyn)),
        ("capacity", by_domain(Type::Opaque("kubernetes.Quantity"))),
        ("allowMultipleAllocations", Type::Bool),
    ];
    let fields = fields.map(|(name, ty)| (name.to_owned(), (name.to_owned(), ty)));
    let device = ObjectType { name: "kubernetes.DRADevice".to_owned(), fields: BTreeMap::from(fields) };
    let variables = BTreeMap::from([("device".to_owned(), Type::Object(Arc::new(device)))]);
    Environment { variables, binds: true, ..Environment::default() }
});

/// Checks the selectors of a request or a class.
pub(super) fn selectors(object: &Value, path: &Path, errors: &mut Errors) {
    for (i, selector) in limited(object, "selectors", SELECTORS_MAX, path, errors).iter().enumerate() {
        let path = path.child("selectors").index(i).child("cel");
        if selector["cel"].is_null() {
            errors.required(&path, "");
            continue;
        }
        let expression = text(selector, &["cel", "expression"]);
        let at = path.child("expression");
        if expression.len() > EXPRESSION_BYTES_MAX {
            errors.too_long(&at, EXPRESSION_BYTES_MAX);
        } else if let Err(why) = selects(expression) {
            errors.invalid(&at, expression, why);
        }
    }
}

fn selects(expression: &str) -> Result<(), String> {
    match compile(expression)?.ty {
        Type::Bool | Type::Dyn => Ok(()),
        ty => Err(format!("must evaluate to bool or the unknown type, not {ty}")),
    }
}

/// Compiles an expression over a device.
pub(crate) fn compile(expression: &str) -> Result<Program, String> {
    Program::compile(&ENVIRONMENT, expression)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_decides_about_a_device() {
        let quantity = r#"device.capacity["gpu.example.com"].memory.compareTo(quantity("1Gi")) > 0"#;
        for fine in [
            "true",
            r#"device.driver == "gpu.example.com""#,
            r#"device.attributes["gpu.example.com"].model == "a""#,
            r#""x" in device.attributes && device.allowMultipleAllocations"#,
            quantity,
        ] {
            assert_eq!(selects(fine), Ok(()), "{fine}");
        }
        assert_eq!(selects("1"), Err("must evaluate to bool or the unknown type, not int".to_owned()));
        for wrong in ["device.name == 'x'", "driver == 'x'", "device.driver +"] {
            assert!(selects(wrong).is_err(), "{wrong}");
        }
    }
}
