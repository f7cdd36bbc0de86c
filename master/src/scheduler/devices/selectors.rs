//! Expressions over devices, evaluated.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::resource::v1::{Device, DeviceAttribute, DeviceSelector};
use protocol::Quantity;

use super::{Budget, Trouble};
use crate::api::cel::library::Semver;
use crate::api::cel::value::Opaque;
use crate::api::cel::{CALL_COST_MAX, Program, Scope, Value};
use crate::api::kinds::devices::selectors::compile;

/// The selectors of a class or a request, compiled.
#[derive(Clone, Debug)]
pub struct Selectors {
    /// Whose they are, as errors name it.
    of: String,
    programs: Vec<Result<Program, String>>,
}

/// Compiles expressions once for all devices of an attempt.
#[derive(Debug, Default)]
pub struct Compiler(HashMap<String, Result<Program, String>>);

impl Compiler {
    /// Compiles selectors.
    pub fn selectors(&mut self, of: String, selectors: Option<&[DeviceSelector]>) -> Selectors {
        let expressions = selectors.unwrap_or_default().iter().map(|s| match &s.cel {
            Some(cel) => cel.expression.as_str(),
            None => "",
        });
        let programs = expressions.map(|e| self.0.entry(e.to_owned()).or_insert_with(|| compile(e)).clone());
        Selectors { of, programs: programs.collect() }
    }
}

impl Selectors {
    /// Whether all of them select a device.
    pub fn select(&self, driver: &str, device: &Device, budget: &mut Budget) -> Result<bool, Trouble> {
        if self.programs.is_empty() {
            return Ok(true);
        }
        let broken = |i: usize, what: &str, why: String| {
            Trouble::Broken(format!("{}: selector #{i}: CEL {what} error: {why}", self.of))
        };
        let value = value(driver, device).map_err(|why| broken(0, "runtime", why))?;
        let scope = Scope::new([("device", value)]);
        for (i, program) in self.programs.iter().enumerate() {
            let program = program.as_ref().map_err(|why| broken(i, "compile", why.clone()))?;
            let mut left = CALL_COST_MAX;
            let made = program.evaluate(&scope, &mut left);
            budget.cost = budget.cost.saturating_sub(CALL_COST_MAX - left);
            match made.map_err(|why| broken(i, "runtime", why.to_string()))? {
                Value::Bool(true) => {}
                Value::Bool(false) => return Ok(false),
                other => return Err(broken(i, "runtime", no_bool(other.type_name()))),
            }
        }
        Ok(true)
    }
}

fn no_bool(of: &str) -> String {
    let why = match of {
        "string" => "unsupported native conversion from string to 'bool'".to_owned(),
        "int" | "uint" => format!("unsupported type conversion from '{of}' to bool"),
        "kubernetes.Semver" => "type conversion error from 'Semver' to 'bool'".to_owned(),
        _ => format!("type conversion error from '{of}' to 'bool'"),
    };
    format!("CEL result of type {of} could not be converted to bool: {why}")
}

/// A device as expressions see it: attributes and capacity by domain and name, where a domain that it knows nothing of is
/// an empty one.
fn value(driver: &str, device: &Device) -> Result<Value<'static>, String> {
    let mut attributes = Domains::default();
    for (name, attribute) in device.attributes.iter().flatten() {
        let value = attribute_value(attribute).map_err(|why| format!("attribute {name}: {why}"))?;
        attributes.add(driver, name, value);
    }
    let mut capacity = Domains::default();
    for (name, of) in device.capacity.iter().flatten() {
        let amount: Quantity = of.value.0.parse().unwrap_or_default();
        capacity.add(driver, name, Value::Opaque(Opaque::Quantity(amount)));
    }
    let shared = device.allow_multiple_allocations == Some(true);
    let fields = [
        ("driver", Value::text(driver)),
        ("attributes", attributes.into_value()),
        ("capacity", capacity.into_value()),
        ("allowMultipleAllocations", Value::Bool(shared)),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    Ok(Value::Struct("kubernetes.DRADevice".into(), Arc::new(BTreeMap::from(fields))))
}

#[derive(Default)]
struct Domains(BTreeMap<String, Vec<(Value<'static>, Value<'static>)>>);

impl Domains {
    /// Names without a domain are in the driver's.
    fn add(&mut self, driver: &str, name: &str, value: Value<'static>) {
        let (domain, name) = name.split_once('/').unwrap_or((driver, name));
        self.0.entry(domain.to_owned()).or_default().push((Value::text(name), value));
    }

    fn into_value(self) -> Value<'static> {
        let entries = self.0.into_iter();
        Value::Open(Arc::new(entries.map(|(d, of)| (Value::text(d), Value::Map(Arc::new(of)))).collect()))
    }
}

fn attribute_value(attribute: &DeviceAttribute) -> Result<Value<'static>, &'static str> {
    if let Some(n) = attribute.int {
        return Ok(Value::Int(n));
    }
    if let Some(b) = attribute.bool {
        return Ok(Value::Bool(b));
    }
    if let Some(s) = &attribute.string {
        return Ok(Value::text(s.as_str()));
    }
    let version = attribute.version.as_ref().ok_or("unsupported attribute value")?;
    let unread = |_| "parse semantic version: No Major.Minor.Patch elements found";
    let version = Semver::parse(version, false).map_err(unread)?;
    Ok(Value::Opaque(Opaque::Semver(Arc::new(version))))
}
