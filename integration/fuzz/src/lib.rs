//! Values that get below the surface: objects whose fields are mostly those of a kind, and mostly of their types.

use arbitrary::{Result, Unstructured};
use protocol::schema::{self, Definition, Type};
use serde_json::{Map, Value};

/// Levels that a value has at most; deeper ones are a matter for the decoders of bytes.
const DEPTH_MAX: usize = 12;
/// Entries that a list or an object has at most.
const ENTRIES_MAX: usize = 5;

/// Texts that mean something somewhere.
const TEXTS: &[&str] = &[
    "", "a", "b", "a.b", "a/b", "A", "-", "*", "1", "-1", "0", "80", "10%", "1Gi", "100m", "1e3", "true", "null", "TCP",
    "UDP", "None", "default", "kube-system", "10.0.0.1", "10.0.0.0/8", "fd00::1", "2026-01-01T00:00:00Z",
    "* * * * *", "In", "Exists", "delete", "replace", "merge", "/spec/a~1b/0", "-", "f:spec", "k:{\"name\":\"a\"}",
    "v:1", ".", "self == oldSelf", "object.spec.replicas > 1", "{\"a\":1}", "YQ==",
];

/// Directives of strategic merge patches.
const DIRECTIVES: &[&str] = &[
    "$patch", "$retainKeys", "$setElementOrder/containers", "$deleteFromPrimitiveList/finalizers",
];

/// A kind of the table.
pub fn definition(u: &mut Unstructured<'_>) -> Result<&'static Definition> {
    let kinds: Vec<&'static Definition> = schema::all().iter().filter(|d| d.gvk.is_some()).collect();
    Ok(*u.choose(&kinds)?)
}

/// A text.
pub fn text(u: &mut Unstructured<'_>) -> Result<String> {
    if u.ratio(9, 10)? { Ok((*u.choose(TEXTS)?).to_owned()) } else { u.arbitrary() }
}

/// Any value at all.
pub fn anything(u: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    Ok(match u.int_in_range(0..=7)? {
        0 => Value::Null,
        1 => u.arbitrary::<bool>()?.into(),
        2 => u.arbitrary::<i64>()?.into(),
        3 => u.int_in_range(-2i64..=70)?.into(),
        4 => u.arbitrary::<f64>()?.into(),
        5 if depth < DEPTH_MAX => list(u, |u| anything(u, depth + 1))?,
        6 if depth < DEPTH_MAX => {
            let mut fields = Map::new();
            for _ in 0..u.int_in_range(0..=ENTRIES_MAX)? {
                fields.insert(text(u)?, anything(u, depth + 1)?);
            }
            fields.into()
        }
        _ => text(u)?.into(),
    })
}

fn list(u: &mut Unstructured<'_>, mut one: impl FnMut(&mut Unstructured<'_>) -> Result<Value>) -> Result<Value> {
    (0..u.int_in_range(0..=ENTRIES_MAX)?).map(|_| one(u)).collect::<Result<Vec<_>>>().map(Value::from)
}

/// A value of a type, mostly.
fn typed(u: &mut Unstructured<'_>, ty: &Type, depth: usize) -> Result<Value> {
    if depth >= DEPTH_MAX || u.ratio(1, 20)? {
        return anything(u, depth);
    }
    Ok(match ty {
        Type::Bool => u.arbitrary::<bool>()?.into(),
        Type::Int32 | Type::Int64 | Type::Number => u.int_in_range(-2i64..=70)?.into(),
        Type::Object(_) => match ty.definition() {
            Some(definition) => object(u, definition, depth + 1)?,
            None => anything(u, depth + 1)?,
        },
        Type::List(item) => list(u, |u| typed(u, item, depth + 1))?,
        Type::Map(value) => {
            let mut fields = Map::new();
            for _ in 0..u.int_in_range(0..=ENTRIES_MAX)? {
                fields.insert(text(u)?, typed(u, value, depth + 1)?);
            }
            fields.into()
        }
        _ => text(u)?.into(),
    })
}

/// An object of a kind, mostly; as a patch it may hold directives.
pub fn object(u: &mut Unstructured<'_>, definition: &Definition, depth: usize) -> Result<Value> {
    let mut fields = Map::new();
    if !definition.fields.is_empty() {
        for _ in 0..u.int_in_range(0..=ENTRIES_MAX)? {
            let field = u.choose(&definition.fields)?;
            fields.insert(field.name.to_owned(), typed(u, &field.ty, depth)?);
        }
    }
    if u.ratio(1, 16)? {
        fields.insert((*u.choose(DIRECTIVES)?).to_owned(), anything(u, depth + 1)?);
    }
    Ok(fields.into())
}
