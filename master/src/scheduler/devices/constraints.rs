//! What the devices of a claim must have in common, or must not.

use k8s_openapi::api::resource::v1::{Device, DeviceAttribute, DeviceConstraint};

use super::request::Request;

/// A constraint, and the values of the devices chosen so far.
#[derive(Clone, Debug)]
pub(super) struct Constraint {
    /// Requests that it is about; none for all.
    requests: Vec<String>,
    attribute: String,
    distinct: bool,
    seen: Vec<Attribute>,
}

/// A value that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Attribute {
    String(String),
    Int(i64),
    Bool(bool),
    /// Versions have one spelling each.
    Version(String),
}

impl Attribute {
    fn of(attribute: &DeviceAttribute) -> Option<Self> {
        let text = || attribute.string.clone().map(Attribute::String);
        let version = || attribute.version.clone().map(Attribute::Version);
        let truth = || attribute.bool.map(Attribute::Bool);
        text().or_else(|| attribute.int.map(Attribute::Int)).or_else(truth).or_else(version)
    }
}

impl Constraint {
    /// As a claim has it; `None` where it says nothing that is known.
    pub fn of(constraint: &DeviceConstraint) -> Option<Self> {
        let (attribute, distinct) = match (&constraint.match_attribute, &constraint.distinct_attribute) {
            (Some(attribute), _) => (attribute, false),
            (None, Some(attribute)) => (attribute, true),
            (None, None) => return None,
        };
        let requests = constraint.requests.clone().unwrap_or_default();
        Some(Constraint { requests, attribute: attribute.clone(), distinct, seen: Vec::new() })
    }

    fn concerns(&self, request: &Request) -> bool {
        let named = |name: &str| self.requests.iter().any(|r| r == name);
        self.requests.is_empty() || named(request.base_name()) || named(&request.full_name())
    }

    /// Takes one more device, if it goes with the others.
    pub fn add(&mut self, request: &Request, driver: &str, device: &Device) -> bool {
        if !self.concerns(request) {
            return true;
        }
        let Some(value) = look_up(device, driver, &self.attribute).and_then(Attribute::of) else {
            return false;
        };
        let fits = match self.distinct {
            true => !self.seen.contains(&value),
            false => self.seen.first().is_none_or(|first| *first == value),
        };
        if fits {
            self.seen.push(value);
        }
        fits
    }

    /// Gives back the device that was taken last.
    pub fn remove(&mut self, request: &Request) {
        if self.concerns(request) {
            self.seen.pop();
        }
    }
}

/// An attribute by its full name; a device need not say its driver's domain.
fn look_up<'a>(device: &'a Device, driver: &str, name: &str) -> Option<&'a DeviceAttribute> {
    let attributes = device.attributes.as_ref()?;
    let short = || name.split_once('/').filter(|(domain, _)| *domain == driver).map(|(_, id)| id);
    attributes.get(name).or_else(|| attributes.get(short()?))
}
