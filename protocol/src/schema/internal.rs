//! Objects the way upstream's messages show them: as JSON of the server's internal Go structs.
//!
//! Those have no JSON names, so a message shows Go's field names, in the order of declaration, absent fields as
//! nulls and zeros. Order comes from the protobuf table (it keeps the order of declaration), names from a rule
//! with exceptions. Types of the meta package have JSON names there too and look as clients know them.

use std::fmt::Write;

use serde_json::Value;

use super::{Definition, Field, Type, embedded};
use crate::difference;

/// A value in the form of an internal struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Anything that is JSON already.
    Leaf(String),
    /// A list.
    List(Vec<Shape>),
    /// A struct or a map, in order.
    Fields(Vec<(String, Shape)>),
}

/// Where internal structs are declared in another order, or with other fields, than the API's.
const ORDERS: &[(&str, &str)] = &[
    (
        "a.core.v1.PodSpec",
        "volumes initContainers containers ephemeralContainers restartPolicy terminationGracePeriodSeconds \
         activeDeadlineSeconds dnsPolicy nodeSelector serviceAccountName automountServiceAccountToken nodeName \
         securityContext imagePullSecrets hostname subdomain setHostnameAsFQDN affinity schedulerName tolerations \
         hostAliases priorityClassName priority preemptionPolicy dnsConfig readinessGates runtimeClassName overhead \
         enableServiceLinks topologySpreadConstraints os schedulingGates resourceClaims resources hostnameOverride \
         schedulingGroup",
    ),
    (
        "a.core.v1.PersistentVolumeSpec",
        "capacity gcePersistentDisk awsElasticBlockStore hostPath glusterfs nfs rbd quobyte iscsi flexVolume cinder \
         cephfs fc flocker azureFile vsphereVolume azureDisk photonPersistentDisk portworxVolume scaleIO local \
         storageos csi accessModes claimRef persistentVolumeReclaimPolicy storageClassName mountOptions volumeMode \
         nodeAffinity volumeAttributesClassName",
    ),
    (
        "a.batch.v1.JobSpec",
        "parallelism completions podFailurePolicy successPolicy activeDeadlineSeconds backoffLimit \
         backoffLimitPerIndex maxFailedIndexes selector manualSelector template ttlSecondsAfterFinished \
         completionMode suspend podReplacementPolicy managedBy",
    ),
    ("a.autoscaling.v2.ContainerResourceMetricSource", "name container target"),
    (
        "a.core.v1.PodSecurityContext",
        "seLinuxOptions windowsOptions runAsUser runAsGroup runAsNonRoot supplementalGroups \
         supplementalGroupsPolicy fsGroup fsGroupChangePolicy sysctls seccompProfile appArmorProfile \
         seLinuxChangePolicy",
    ),
    (
        "a.core.v1.SecurityContext",
        "capabilities privileged seLinuxOptions windowsOptions runAsUser runAsGroup runAsNonRoot \
         readOnlyRootFilesystem allowPrivilegeEscalation procMount seccompProfile appArmorProfile",
    ),
    (
        "a.core.v1.Volume",
        "name hostPath emptyDir gcePersistentDisk awsElasticBlockStore gitRepo secret nfs iscsi glusterfs \
         persistentVolumeClaim rbd quobyte flexVolume cinder cephfs flocker downwardAPI fc azureFile configMap \
         vsphereVolume azureDisk photonPersistentDisk projected portworxVolume scaleIO storageos csi ephemeral image",
    ),
];

/// Templates of objects: their metadata has no name of its own.
const TEMPLATES: [&str; 4] = [
    "a.batch.v1.JobTemplateSpec",
    "a.core.v1.PersistentVolumeClaimTemplate",
    "a.core.v1.PodTemplateSpec",
    "a.resource.v1.ResourceClaimTemplateSpec",
];

/// Fields of internal structs that have a name of their own there: the definition, the field, its name.
const NAMES: &[(&str, &str, &str)] = &[
    ("a.core.v1.AzureDiskVolumeSource", "diskURI", "DataDiskURI"),
    ("a.core.v1.ContainerStatus", "lastState", "LastTerminationState"),
    ("a.core.v1.GlusterfsPersistentVolumeSource", "endpoints", "EndpointsName"),
    ("a.core.v1.GlusterfsVolumeSource", "endpoints", "EndpointsName"),
    ("a.core.v1.ISCSIPersistentVolumeSource", "chapAuthDiscovery", "DiscoveryCHAPAuth"),
    ("a.core.v1.ISCSIPersistentVolumeSource", "chapAuthSession", "SessionCHAPAuth"),
    ("a.core.v1.ISCSIVolumeSource", "chapAuthDiscovery", "DiscoveryCHAPAuth"),
    ("a.core.v1.ISCSIVolumeSource", "chapAuthSession", "SessionCHAPAuth"),
    ("a.core.v1.PhotonPersistentDiskVolumeSource", "pdID", "PdID"),
    ("a.core.v1.RBDPersistentVolumeSource", "image", "RBDImage"),
    ("a.core.v1.RBDPersistentVolumeSource", "monitors", "CephMonitors"),
    ("a.core.v1.RBDPersistentVolumeSource", "pool", "RBDPool"),
    ("a.core.v1.RBDPersistentVolumeSource", "user", "RadosUser"),
    ("a.core.v1.RBDVolumeSource", "image", "RBDImage"),
    ("a.core.v1.RBDVolumeSource", "monitors", "CephMonitors"),
    ("a.core.v1.RBDVolumeSource", "pool", "RBDPool"),
    ("a.core.v1.RBDVolumeSource", "user", "RadosUser"),
    ("a.resource.v1.DeviceAttribute", "bool", "BoolValue"),
    ("a.resource.v1.DeviceAttribute", "bools", "BoolValues"),
    ("a.resource.v1.DeviceAttribute", "int", "IntValue"),
    ("a.resource.v1.DeviceAttribute", "ints", "IntValues"),
    ("a.resource.v1.DeviceAttribute", "string", "StringValue"),
    ("a.resource.v1.DeviceAttribute", "strings", "StringValues"),
    ("a.resource.v1.DeviceAttribute", "version", "VersionValue"),
    ("a.resource.v1.DeviceAttribute", "versions", "VersionValues"),
];

/// Fields that are pointers in the API, and not where the server holds them.
const VALUES: &[(&str, &str)] = &[
    ("a.apps.v1.RollingUpdateDaemonSet", "maxSurge"),
    ("a.apps.v1.RollingUpdateDaemonSet", "maxUnavailable"),
    ("a.apps.v1.RollingUpdateDeployment", "maxSurge"),
    ("a.apps.v1.RollingUpdateDeployment", "maxUnavailable"),
    ("a.apps.v1.RollingUpdateStatefulSetStrategy", "partition"),
];

/// Fields of a pod's spec that its security context holds internally.
const HOST_FIELDS: &[(&str, bool)] = &[
    ("hostNetwork", false),
    ("hostPID", false),
    ("hostIPC", false),
    ("shareProcessNamespace", true),
    ("hostUsers", true),
];

/// Words that Go spells in capitals, where a JSON name begins with them.
const CAPITALS: &[(&str, &str)] = &[
    ("api", "API"),
    ("aws", "AWS"),
    ("ca", "CA"),
    ("cel", "CEL"),
    ("cephfs", "CephFS"),
    ("cidr", "CIDR"),
    ("cidrs", "CIDRs"),
    ("csi", "CSI"),
    ("dns", "DNS"),
    ("fc", "FC"),
    ("fqdn", "FQDN"),
    ("fs", "FS"),
    ("gce", "GCE"),
    ("gid", "GID"),
    ("gmsa", "GMSA"),
    ("grpc", "GRPC"),
    ("http", "HTTP"),
    ("ip", "IP"),
    ("ips", "IPs"),
    ("iqn", "IQN"),
    ("iscsi", "ISCSI"),
    ("json", "JSON"),
    ("nfs", "NFS"),
    ("os", "OS"),
    ("pd", "PD"),
    ("pid", "PID"),
    ("rbd", "RBD"),
    ("se", "SE"),
    ("ssl", "SSL"),
    ("storageos", "StorageOS"),
    ("tcp", "TCP"),
    ("tls", "TLS"),
    ("ttl", "TTL"),
    ("tty", "TTY"),
    ("uid", "UID"),
    ("url", "URL"),
    ("wwids", "WWIDs"),
];

/// The Go name of a field.
fn go_name(name: &str) -> String {
    let first = name.find(|c: char| c.is_ascii_uppercase()).unwrap_or(name.len());
    let (word, rest) = name.split_at(first);
    if let Some((_, capital)) = CAPITALS.iter().find(|(w, _)| *w == word) {
        return format!("{capital}{rest}");
    }
    let mut chars = word.chars();
    chars.next().map(|c| format!("{}{}{rest}", c.to_ascii_uppercase(), chars.as_str())).unwrap_or_default()
}

/// The Go name of a field in the server's own struct.
fn name_in(definition: &Definition, field: &Field) -> String {
    let own = NAMES.iter().find(|(of, name, _)| *of == definition.name && *name == field.name);
    own.map_or_else(|| go_name(field.name), |(_, _, own)| (*own).to_owned())
}

fn order(definition: &'static Definition) -> Vec<&'static Field> {
    let known = ORDERS.iter().find(|(name, _)| *name == definition.name);
    let mut fields: Vec<&Field> = match known {
        Some((_, names)) => names.split_whitespace().filter_map(|n| definition.field(n)).collect(),
        None => Vec::new(),
    };
    if fields.is_empty() {
        fields = declared(definition);
    }
    fields
}

/// All fields of a definition in the order in which Go's code goes through them: what it is of comes first.
pub fn in_order(definition: &'static Definition) -> Vec<&'static Field> {
    let mut all: Vec<&Field> = definition.fields.iter().collect();
    all.sort_by_key(|field| field.order);
    all
}

/// The same without what it is of, which is in no message.
fn declared(definition: &'static Definition) -> Vec<&'static Field> {
    let messages = embedded::declared(definition);
    let mut all = in_order(definition);
    // What no table of messages knows is in no order.
    all.retain(|field| messages.is_empty() || messages.contains(&field.name));
    all
}

/// A value of a definition as the server holds it.
pub fn internal(definition: &'static Definition, value: &Value) -> Shape {
    if definition.name.starts_with("m.") {
        return external(definition, value);
    }
    shown(definition, order(definition), value)
}

/// Some fields of a value as the server holds them.
pub fn part(definition: &'static Definition, names: &[&str], value: &Value) -> Shape {
    let fields = order(definition).into_iter().filter(|field| names.contains(&field.name));
    shown(definition, fields.collect(), value)
}

fn shown(definition: &'static Definition, of: Vec<&'static Field>, value: &Value) -> Shape {
    let mut fields = Vec::new();
    for field in of {
        let given = &value[field.name];
        if TEMPLATES.contains(&definition.name) && field.name == "metadata" {
            // Embedded without a name of its own: its fields lie beside the spec's.
            if let Some(Shape::Fields(inner)) = external_of(&field.ty, given) {
                fields.extend(inner);
            }
            continue;
        }
        let pointer = field.pointer && !VALUES.contains(&(definition.name, field.name));
        let mut shape = field_shape(field, pointer, given);
        if definition.name == "a.core.v1.PodSpec"
            && field.name == "securityContext"
            && let Shape::Fields(inner) = &mut shape
        {
            let hosts = HOST_FIELDS.iter().map(|(name, pointer)| {
                let shown = match &value[*name] {
                    Value::Null if *pointer => "null".to_owned(),
                    Value::Null => "false".to_owned(),
                    given => given.to_string(),
                };
                (go_name(name), Shape::Leaf(shown))
            });
            inner.splice(0..0, hosts.collect::<Vec<_>>());
        }
        fields.push((name_in(definition, field), shape));
    }
    Shape::Fields(fields)
}

fn field_shape(field: &'static Field, pointer: bool, value: &Value) -> Shape {
    if value.is_null() {
        return match &field.ty {
            Type::Object(_) if !pointer => match field.ty.definition() {
                Some(definition) => internal(definition, value),
                None => null(),
            },
            _ if pointer => null(),
            Type::String | Type::Bytes => Shape::Leaf("\"\"".to_owned()),
            Type::Bool => Shape::Leaf("false".to_owned()),
            Type::Int32 | Type::Int64 | Type::Number | Type::IntOrString => Shape::Leaf("0".to_owned()),
            Type::Quantity => Shape::Leaf("\"0\"".to_owned()),
            _ => null(),
        };
    }
    shape(&field.ty, value)
}

/// A value of a type as the server holds it.
pub fn shape(ty: &'static Type, value: &Value) -> Shape {
    match (ty, value) {
        (Type::Object(_), Value::Object(_)) => {
            ty.definition().map_or_else(|| leaf(value), |definition| internal(definition, value))
        }
        (Type::List(element), Value::Array(items)) => {
            Shape::List(items.iter().map(|i| shape(element, i)).collect())
        }
        (Type::Map(element), Value::Object(map)) => {
            let mut entries: Vec<_> = map.iter().map(|(k, v)| (k.clone(), shape(element, v))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Shape::Fields(entries)
        }
        (_, value) => leaf(value),
    }
}

/// A value of a definition under its JSON names, in the order of declaration, without what is absent.
pub fn external(definition: &'static Definition, value: &Value) -> Shape {
    let fields = order(definition).into_iter().filter_map(|field| {
        let given = value.get(field.name)?;
        if field.omitempty && is_empty(given) {
            return None;
        }
        Some((field.name.to_owned(), external_of(&field.ty, given)?))
    });
    Shape::Fields(fields.collect())
}

fn external_of(ty: &'static Type, value: &Value) -> Option<Shape> {
    Some(match (ty, value) {
        (_, Value::Null) => return None,
        (Type::Object(_), Value::Object(_)) => match ty.definition() {
            Some(definition) => external(definition, value),
            None => leaf(value),
        },
        (Type::List(element), Value::Array(items)) => {
            Shape::List(items.iter().filter_map(|i| external_of(element, i)).collect())
        }
        (Type::Map(element), Value::Object(map)) => Shape::Fields(
            map.iter().filter_map(|(k, v)| Some((k.clone(), external_of(element, v)?))).collect(),
        ),
        (_, value) => leaf(value),
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn null() -> Shape {
    Shape::Leaf("null".to_owned())
}

fn leaf(value: &Value) -> Shape {
    Shape::Leaf(go_json(&value.to_string()))
}

/// Go escapes what HTML would take for markup.
pub fn go_json(text: &str) -> String {
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

impl Shape {
    /// On one line.
    pub fn compact(&self) -> String {
        let mut out = String::new();
        self.write_compact(&mut out);
        out
    }

    fn write_compact(&self, out: &mut String) {
        let comma = |out: &mut String, i: usize| {
            if i > 0 {
                out.push(',');
            }
        };
        match self {
            Shape::Leaf(text) => out.push_str(text),
            Shape::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    comma(out, i);
                    item.write_compact(out);
                }
                out.push(']');
            }
            Shape::Fields(fields) => {
                out.push('{');
                for (i, (name, field)) in fields.iter().enumerate() {
                    comma(out, i);
                    // Writing to a String does not fail.
                    let _ = write!(out, "{}:", Value::from(name.as_str()));
                    field.write_compact(out);
                }
                out.push('}');
            }
        }
    }

    /// One value a line, each level indented by one space.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        self.write_pretty(&mut out, 0);
        out
    }

    fn write_pretty(&self, out: &mut String, depth: usize) {
        let line = |out: &mut String, i: usize, depth: usize| {
            out.push_str(if i > 0 { ",\n" } else { "\n" });
            out.extend(std::iter::repeat_n(' ', depth));
        };
        match self {
            Shape::List(items) if !items.is_empty() => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    line(out, i, depth + 1);
                    item.write_pretty(out, depth + 1);
                }
                line(out, 0, depth);
                out.push(']');
            }
            Shape::Fields(fields) if !fields.is_empty() => {
                out.push('{');
                for (i, (name, field)) in fields.iter().enumerate() {
                    line(out, i, depth + 1);
                    let _ = write!(out, "{}: ", Value::from(name.as_str()));
                    field.write_pretty(out, depth + 1);
                }
                line(out, 0, depth);
                out.push('}');
            }
            other => other.write_compact(out),
        }
    }

    /// What changed between two, as a unified diff of their lines; empty where nothing did.
    pub fn diff(&self, new: &Shape) -> String {
        let (old, new) = (self.pretty() + "\n", new.pretty() + "\n");
        difference::unified(&old, &new)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::definition;
    use super::*;

    #[test]
    fn names_follow_go() {
        for (json, go) in [
            ("name", "Name"),
            ("apiGroup", "APIGroup"),
            ("dnsPolicy", "DNSPolicy"),
            ("hostPID", "HostPID"),
            ("seLinuxOptions", "SELinuxOptions"),
            ("tty", "TTY"),
            ("ttlSecondsAfterFinished", "TTLSecondsAfterFinished"),
            ("cidrs", "CIDRs"),
            ("csi", "CSI"),
            ("setHostnameAsFQDN", "SetHostnameAsFQDN"),
        ] {
            assert_eq!(go_name(json), go);
        }
    }

    #[test]
    fn fields_have_the_names_of_the_servers_own_structs() {
        for (of, value, wanted) in [
            (
                "a.core.v1.PhotonPersistentDiskVolumeSource",
                json!({"pdID": "a"}),
                r#"{"PdID":"a","FSType":""}"#,
            ),
            // No pointers there.
            (
                "a.apps.v1.RollingUpdateStatefulSetStrategy",
                json!({}),
                r#"{"Partition":0,"MaxUnavailable":null}"#,
            ),
            (
                "a.apps.v1.RollingUpdateDeployment",
                json!({"maxSurge": "10%"}),
                r#"{"MaxUnavailable":0,"MaxSurge":"10%"}"#,
            ),
            (
                "a.core.v1.GlusterfsVolumeSource",
                json!({"endpoints": "a", "path": "b"}),
                r#"{"EndpointsName":"a","Path":"b","ReadOnly":false}"#,
            ),
            (
                "a.core.v1.LinuxContainerUser",
                json!({"gid": 1}),
                r#"{"UID":0,"GID":1,"SupplementalGroups":null}"#,
            ),
        ] {
            assert_eq!(internal(definition(of).expect(of), &value).compact(), wanted);
        }
        for (of, field, _) in NAMES {
            assert!(definition(of).expect(of).field(field).is_some(), "{of} {field}");
        }
    }

    #[test]
    fn a_struct_shows_all_its_fields_in_order() {
        let taint = definition("a.core.v1.Taint").expect("taint");
        let shown = internal(taint, &json!({"effect": "NoSchedule", "key": "a"})).compact();
        assert_eq!(shown, r#"{"Key":"a","Value":"","Effect":"NoSchedule","TimeAdded":null}"#);
        let budget = definition("a.policy.v1.PodDisruptionBudgetSpec").expect("budget");
        let value =
            json!({"minAvailable": 1, "maxUnavailable": "5%", "selector": {"matchLabels": {"a": "b"}}});
        assert_eq!(
            internal(budget, &value).compact(),
            r#"{"MinAvailable":1,"Selector":{"matchLabels":{"a":"b"}},"MaxUnavailable":"5%","UnhealthyPodEvictionPolicy":null}"#
        );
    }

    #[test]
    fn a_part_of_a_struct_keeps_the_order() {
        let volume = definition("a.core.v1.PersistentVolumeSpec").expect("volume");
        let shown = part(volume, &["nfs", "hostPath"], &json!({"capacity": {}, "hostPath": {"path": "/a"}}));
        assert_eq!(shown.compact(), r#"{"HostPath":{"Path":"/a","Type":null},"NFS":null}"#);
    }

    #[test]
    fn a_pods_security_context_holds_what_the_host_shares() {
        let spec = definition("a.core.v1.PodSpec").expect("spec");
        let shown = internal(spec, &json!({"hostNetwork": true, "securityContext": {}})).compact();
        assert!(
            shown.contains(r#""SecurityContext":{"HostNetwork":true,"HostPID":false,"HostIPC":false,"#),
            "{shown}"
        );
        assert!(!shown.contains("\"ServiceAccount\":"), "{shown}");
    }

    #[test]
    fn a_diff_shows_three_lines_around_a_change() {
        let taint = definition("a.core.v1.Taint").expect("taint");
        let old = internal(taint, &json!({"key": "a", "effect": "NoSchedule"}));
        let new = internal(taint, &json!({"key": "b", "effect": "NoSchedule"}));
        let wanted = "@@ -1,5 +1,5 @@\n {\n- \"Key\": \"a\",\n+ \"Key\": \"b\",\n  \"Value\": \"\",\n  \
                      \"Effect\": \"NoSchedule\",\n  \"TimeAdded\": null\n";
        assert_eq!(old.diff(&new), wanted);
        assert_eq!(old.diff(&old), "");
    }
}
