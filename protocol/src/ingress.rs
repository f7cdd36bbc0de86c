//! What master and nodes must agree on about Ingresses: whose they are, and how a node says that it serves them.
//!
//! The master decides by it whose address a status names and which Secrets a node may read, the node what it
//! serves; so it is decided here, once.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use serde::{Deserialize, Serialize};

/// What an IngressClass names as its controller to be served by nodes of this cluster.
pub const CONTROLLER: &str = "troupe.dev/ingress";
/// The IngressClass that exists wherever a node serves Ingresses.
pub const CLASS: &str = "troupe";
/// The annotation by which a Node says that it serves Ingresses, and on which ports.
pub const SERVED: &str = "troupe.dev/ingress";
/// How Ingresses named their class before there were IngressClasses.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Marks the class of Ingresses that name none.
pub const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// The ports that a node serves Ingresses on; 0 for none of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Plain HTTP.
    pub http: u16,
    /// HTTP in TLS.
    pub https: u16,
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http={},https={}", self.http, self.https)
    }
}

/// What stands on a Node is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form \"http=PORT,https=PORT\"")]
pub struct BadPorts(String);

impl FromStr for Ports {
    type Err = BadPorts;

    fn from_str(text: &str) -> Result<Self, BadPorts> {
        let read = || {
            let (http, https) = text.split_once(',')?;
            let http = http.strip_prefix("http=")?.parse().ok()?;
            let https = https.strip_prefix("https=")?.parse().ok()?;
            Some(Ports { http, https })
        };
        read().ok_or_else(|| BadPorts(text.to_owned()))
    }
}

/// The ports that a node says that it serves Ingresses on.
pub fn served_by(node: &Node) -> Option<Ports> {
    node.metadata.annotations.as_ref()?.get(SERVED)?.parse().ok()
}

/// The class that an Ingress names: all that has to be known of it to tell whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Class {
    name: Option<Box<str>>,
    /// By the field, not by the annotation.
    by_field: bool,
}

impl Class {
    /// What an Ingress names, by field or by annotation.
    pub fn of(ingress: &Ingress) -> Class {
        let field = ingress.spec.as_ref().and_then(|s| s.ingress_class_name.as_deref());
        let annotations = ingress.metadata.annotations.as_ref();
        let name = field.or_else(|| annotations.and_then(|a| a.get(CLASS_ANNOTATION)).map(String::as_str));
        Class { name: name.map(Into::into), by_field: field.is_some() }
    }

    /// Whether the nodes of this cluster serve an Ingress of it: it is a class of ours, or none where ours is the
    /// default. [`CLASS`] in the old annotation needs no IngressClass, as there were none then.
    pub fn is_ours<'a>(&self, classes: impl IntoIterator<Item = &'a IngressClass>) -> bool {
        let mut classes = classes.into_iter();
        match self.name.as_deref() {
            // A class of that name that is somebody else's is theirs.
            Some(name) => match classes.find(|c| c.metadata.name.as_deref() == Some(name)) {
                Some(class) => is_ours_class(class),
                None => !self.by_field && name == CLASS,
            },
            None => classes.any(|c| is_default(c) && is_ours_class(c)),
        }
    }
}

fn is_ours_class(class: &IngressClass) -> bool {
    class.spec.as_ref().and_then(|s| s.controller.as_deref()) == Some(CONTROLLER)
}

fn is_default(class: &IngressClass) -> bool {
    let annotations = class.metadata.annotations.as_ref();
    annotations.and_then(|a| a.get(DEFAULT_ANNOTATION)).is_some_and(|v| v == "true")
}

/// Whether the nodes of this cluster serve an Ingress: see [`Class::is_ours`].
pub fn is_ours<'a>(ingress: &Ingress, classes: impl IntoIterator<Item = &'a IngressClass>) -> bool {
    Class::of(ingress).is_ours(classes)
}

/// The Secrets that an Ingress names, all of its own namespace.
pub fn secrets(ingress: &Ingress) -> impl Iterator<Item = &str> {
    let tls = ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
    tls.filter_map(|tls| tls.secret_name.as_deref()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn class(name: &str, controller: &str, default: bool) -> IngressClass {
        serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": {DEFAULT_ANNOTATION: default.to_string()}},
            "spec": {"controller": controller}}))
        .unwrap()
    }

    fn ingress(field: Option<&str>, annotation: Option<&str>) -> Ingress {
        let mut value = json!({"metadata": {"name": "i"}, "spec": {}});
        if let Some(class) = field {
            value["spec"]["ingressClassName"] = class.into();
        }
        if let Some(class) = annotation {
            value["metadata"]["annotations"] = json!({CLASS_ANNOTATION: class});
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn whose_an_ingress_is_follows_from_its_class() {
        let ours = class("troupe", CONTROLLER, false);
        let second = class("inside", CONTROLLER, false);
        let theirs = class("nginx", "k8s.io/ingress-nginx", true);
        let default = class("troupe", CONTROLLER, true);
        let taken = class("troupe", "example.com/other", false);
        for (what, ingress, classes, wanted) in [
            ("by field", ingress(Some("troupe"), None), vec![&ours, &theirs], true),
            ("another class of ours", ingress(Some("inside"), None), vec![&ours, &second], true),
            ("somebody else's", ingress(Some("nginx"), None), vec![&ours, &theirs], false),
            ("a class that is not there", ingress(Some("troupe"), None), vec![], false),
            ("by annotation", ingress(None, Some("troupe")), vec![&ours], true),
            ("by annotation, without classes", ingress(None, Some("troupe")), vec![], true),
            ("our name, somebody else's class", ingress(None, Some("troupe")), vec![&taken], false),
            ("the field wins", ingress(Some("nginx"), Some("troupe")), vec![&ours, &theirs], false),
            ("none, another default", ingress(None, None), vec![&ours, &theirs], false),
            ("none, ours is the default", ingress(None, None), vec![&default], true),
            ("none, no default", ingress(None, None), vec![&ours], false),
        ] {
            assert_eq!(is_ours(&ingress, classes), wanted, "{what}");
        }
    }

    #[test]
    fn ports_are_read_as_they_are_written() {
        let ports = Ports { http: 80, https: 0 };
        assert_eq!(ports.to_string().parse(), Ok(ports));
        for bad in ["", "80,443", "http=80", "http=80,https=70000", "https=1,http=2"] {
            assert_eq!(bad.parse::<Ports>(), Err(BadPorts(bad.to_owned())));
        }
        let node = |value: Value| serde_json::from_value::<Node>(value).unwrap();
        let says = node(json!({"metadata": {"annotations": {SERVED: "http=8080,https=8443"}}}));
        assert_eq!(served_by(&says), Some(Ports { http: 8080, https: 8443 }));
        assert_eq!(served_by(&node(json!({"metadata": {}}))), None);
    }
}
