//! What pods may say about the system that they run on: Windows knows some things alone, and others not at all.

use serde_json::Value;

use super::containers::KINDS;
use crate::api::invalid::{Errors, Path};
use crate::api::object::{list, text};

const SYSTEMS: &[&str] = &["linux", "windows"];
const NOT_ON_WINDOWS: &str = "cannot be set for a windows pod";
const NOT_ON_LINUX: &str = "windows options cannot be set for a linux pod";
/// Parts of a pod's security context that Windows does not know, some of which stand in the spec itself.
const POD_FIELDS: &[&str] = &[
    "securityContext.appArmorProfile",
    "securityContext.seLinuxOptions",
    "hostUsers",
    "hostPID",
    "hostIPC",
    "securityContext.seccompProfile",
    "securityContext.fsGroup",
    "securityContext.fsGroupChangePolicy",
    "securityContext.sysctls",
    "shareProcessNamespace",
    "securityContext.runAsUser",
    "securityContext.runAsGroup",
    "securityContext.supplementalGroups",
    "securityContext.supplementalGroupsPolicy",
    "securityContext.seLinuxChangePolicy",
];
/// The same of a container's.
const CONTAINER_FIELDS: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];
const GMSA_KIB_MAX: usize = 64;
const DOMAIN_MAX: usize = 256;
const USER_MAX: usize = 104;

/// The containers of a pod, with where they stand.
fn containers<'a>(spec: &'a Value, path: &'a Path) -> impl Iterator<Item = (&'a Value, Path)> {
    KINDS.iter().flat_map(move |kind| {
        list(spec, &[kind]).iter().enumerate().map(move |(i, item)| (item, path.child(kind).index(i)))
    })
}

/// Checks the system, and that the pod says nothing that it does not know.
pub fn system(spec: &Value, path: &Path, errors: &mut Errors) {
    if !spec["os"].is_object() {
        return;
    }
    match text(spec, &["os", "name"]) {
        "" => errors.required(&path.child("os").child("name"), ""),
        "linux" => linux(spec, path, errors),
        "windows" => windows(spec, path, errors),
        other => errors.unsupported(&path.child("os"), other, SYSTEMS),
    }
}

fn linux(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut check = |context: &Value, path: &Path| {
        if !context["windowsOptions"].is_null() {
            errors.forbidden(&path.child("securityContext").child("windowsOptions"), NOT_ON_LINUX);
        }
    };
    check(&spec["securityContext"], path);
    containers(spec, path).for_each(|(item, path)| check(&item["securityContext"], &path));
}

fn windows(spec: &Value, path: &Path, errors: &mut Errors) {
    for field in POD_FIELDS {
        let value = field.split('.').fold(spec, |value, name| &value[name]);
        let said = match value {
            Value::Null => false,
            // To share nothing is to say nothing.
            Value::Bool(said) => *said || matches!(*field, "hostUsers" | "shareProcessNamespace"),
            Value::Array(items) => !items.is_empty() || *field == "securityContext.supplementalGroups",
            _ => true,
        };
        if said {
            errors.forbidden(&path.child(field), NOT_ON_WINDOWS);
        }
    }
    for (item, path) in containers(spec, path) {
        for field in CONTAINER_FIELDS.iter().filter(|f| !item["securityContext"][**f].is_null()) {
            errors.forbidden(&path.child("securityContext").child(field), NOT_ON_WINDOWS);
        }
    }
}

/// Containers that are processes of their Windows host: all of a pod or none, and on its network.
pub fn host_processes(spec: &Value, path: &Path, errors: &mut Errors) {
    let said = |context: &Value| context["windowsOptions"]["hostProcess"].as_bool();
    let whole = said(&spec["securityContext"]);
    let (mut count, mut on_host) = (0, 0);
    for (item, path) in containers(spec, path) {
        count += 1;
        let own = said(&item["securityContext"]);
        if let (Some(whole), Some(own)) = (whole, own)
            && whole != own
        {
            let path = path.child("securityContext").child("windowsOptions").child("hostProcess");
            let detail =
                format!("pod hostProcess value must be identical if both are specified, was {whole}");
            errors.invalid(&path, own, detail);
        }
        on_host += usize::from(own.or(whole) == Some(true));
    }
    if on_host == 0 {
        return;
    }
    if on_host != count {
        let detail =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid(path, "", detail);
    }
    if spec["hostNetwork"] != Value::Bool(true) {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(&path.child("hostNetwork"), false, detail);
    }
}

/// Checks the options of a security context for Windows.
pub fn options(context: &Value, path: &Path, errors: &mut Errors) {
    let (options, path) = (&context["windowsOptions"], path.child("windowsOptions"));
    if let Some(name) = options["gmsaCredentialSpecName"].as_str() {
        let path = path.child("gmsaCredentialSpecName");
        crate::api::kinds::checks::named(crate::api::meta::NameRule::Subdomain, name, &path, errors);
    }
    if let Some(spec) = options["gmsaCredentialSpec"].as_str() {
        let path = path.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.invalid(&path, spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > GMSA_KIB_MAX * 1024 {
            errors.invalid(&path, spec, format!("gmsaCredentialSpec size must be under {GMSA_KIB_MAX} KiB"));
        }
    }
    if let Some(name) = options["runAsUserName"].as_str() {
        for detail in user_name_errors(name) {
            errors.invalid(&path.child("runAsUserName"), name, format!("runAsUserName{detail}"));
        }
    }
}

/// What is wrong with the name of a user, who may belong to a domain.
fn user_name_errors(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec![" cannot be an empty string".to_owned()];
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return vec![" cannot contain control characters".to_owned()];
    }
    let (domain, user) = match name.split('\\').collect::<Vec<_>>()[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return vec![" cannot contain more than one backslash".to_owned()],
    };
    let mut wrong = Vec::new();
    if domain.is_some_and(|d| d.len() >= DOMAIN_MAX) {
        wrong.push(format!("'s Domain length must be under {DOMAIN_MAX} characters"));
    }
    if domain.is_some_and(|d| !is_net_bios(d) && !is_domain(d)) {
        wrong.push("'s Domain doesn't match the NetBios nor the DNS format".to_owned());
    }
    if user.is_empty() {
        wrong.push("'s User cannot be empty".to_owned());
    } else if user.len() > USER_MAX {
        wrong.push(format!("'s User length must not be longer than {USER_MAX} characters"));
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        wrong.push("'s User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        wrong.push("'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]".to_owned());
    }
    wrong
}

fn is_net_bios(domain: &str) -> bool {
    let odd = ['\\', '/', ':', '*', '?', '"', '<', '>', '|'];
    (1..=15).contains(&domain.chars().count()) && !domain.starts_with('.') && !domain.contains(odd)
}

fn is_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let plain = |b: u8| b.is_ascii_alphanumeric();
        let bytes = label.as_bytes();
        (1..=63).contains(&bytes.len())
            && [bytes.first(), bytes.last()].into_iter().flatten().all(|b| plain(*b))
            && bytes.iter().all(|b| plain(*b) || *b == b'-')
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn users_have_a_form() {
        for (name, wrong) in [
            ("user", ""),
            ("DOMAIN\\user", ""),
            ("a.example.com\\user", ""),
            ("", " cannot be an empty string"),
            ("a\\b\\c", " cannot contain more than one backslash"),
            ("a\\", "'s User cannot be empty"),
            ("..", "'s User cannot contain only periods or spaces"),
            ("a*b", "'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"),
            (".d*\\u", "'s Domain doesn't match the NetBios nor the DNS format"),
        ] {
            assert_eq!(user_name_errors(name).join("; "), wrong, "{name}");
        }
    }

    #[test]
    fn each_system_knows_its_own() {
        let said = |spec: Value| {
            let mut errors = Errors::default();
            system(&spec, &Path::new("spec"), &mut errors);
            host_processes(&spec, &Path::new("spec"), &mut errors);
            errors.messages()
        };
        let process = json!({"windowsOptions": {"hostProcess": true}});
        assert_eq!(
            said(json!({"os": {"name": "linux"}, "hostNetwork": true, "securityContext": process.clone(),
                "containers": [{}]})),
            ["spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod"]
        );
        assert_eq!(
            said(json!({"os": {"name": "windows"}, "hostPID": true, "shareProcessNamespace": false,
                "containers": [{"securityContext": {"privileged": false}}]})),
            [
                "spec.hostPID: Forbidden: cannot be set for a windows pod",
                "spec.shareProcessNamespace: Forbidden: cannot be set for a windows pod",
                "spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod",
            ]
        );
        assert_eq!(
            said(json!({"containers": [{"securityContext": process}, {}]})),
            [
                "spec: Invalid value: \"\": If pod contains any hostProcess containers then all containers must be \
                 HostProcess containers",
                "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess \
                 containers",
            ]
        );
    }
}
