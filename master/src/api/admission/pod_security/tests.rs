use serde_json::{Value, json};

use super::*;

fn standard(text: &str) -> Standard {
    let (level, version) = text.split_once(':').unwrap();
    let labels = json!({
        "pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/enforce-version": version});
    let (policy, errors) = of_labels(&labels, &Policy::default());
    assert!(errors.is_empty(), "{:?}", errors.messages());
    policy.enforce
}

fn check(at: &str, spec: Value, expected: &str) {
    let got = told(&violations(standard(at), &json!({}), &spec));
    assert_eq!(got, expected, "{at} {spec}");
}

fn one(context: Value) -> Value {
    json!({"containers": [{"name": "c", "securityContext": context}]})
}

fn hardened() -> Value {
    json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"}})
}

fn with(mut context: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        context[name] = value.clone();
    }
    one(context)
}

#[test]
fn the_baseline_names_what_it_forbids() {
    let check = |spec, expected| check("baseline:latest", spec, expected);
    check(one(json!({})), "");
    check(
        json!({"hostPID": true, "hostNetwork": true, "containers": []}),
        "host namespaces (hostNetwork=true, hostPID=true)",
    );
    check(
        json!({"containers": [{"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 8080}]},
            {"name": "b", "ports": [{"hostPort": 443}]}, {"name": "c", "ports": [{"containerPort": 1}]}]}),
        "hostPort (containers \"a\", \"b\" use hostPorts 443, 80, 8080)",
    );
    check(
        one(json!({"seLinuxOptions": {"type": "spc_t", "user": "u"}})),
        "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
    );
    check(
        json!({"containers": [], "securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}}),
        "forbidden sysctls (kernel.msgmax)",
    );
    check(
        json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}]}),
        "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"10.0.0.1\")",
    );
    check(
        json!({"securityContext": {"windowsOptions": {"hostProcess": true}}, "containers": [
            {"name": "a", "securityContext": {"windowsOptions": {"hostProcess": true}}}]}),
        "hostProcess (pod and container \"a\" must not set securityContext.windowsOptions.hostProcess=true)",
    );
    check(
        one(json!({"appArmorProfile": {"type": "Unconfined"}})),
        "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
    );
}

#[test]
fn the_restricted_level_asks_for_more() {
    let check = |spec, expected| check("restricted:latest", spec, expected);
    check(one(hardened()), "");
    check(
        with(hardened(), json!({"capabilities": {"drop": ["ALL"], "add": ["CHOWN", "NET_BIND_SERVICE"]}})),
        "unrestricted capabilities (container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
    );
    check(
        with(hardened(), json!({"runAsNonRoot": false})),
        "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false)",
    );
    check(
        with(hardened(), json!({"seccompProfile": {"type": "Unconfined"}})),
        "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
    );
    let mut volumes = one(hardened());
    volumes["volumes"] =
        json!([{"name": "a", "nfs": {}}, {"name": "b", "hostPath": {}}, {"name": "c", "secret": {}}]);
    check(
        volumes,
        "restricted volume types (volumes \"a\", \"b\" use restricted volume types \"hostPath\", \"nfs\")",
    );
}

#[test]
fn older_versions_know_less() {
    let root = with(hardened(), json!({"runAsUser": 0}));
    check("restricted:v1.22", root.clone(), "");
    check("restricted:v1.23", root, "runAsUser=0 (container \"c\" must not set runAsUser=0)");
    let sysctl = json!({"containers": [], "securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
    check("baseline:v1.31", sysctl.clone(), "forbidden sysctls (net.ipv4.tcp_rmem)");
    check("baseline:v1.32", sysctl, "");
    let adds = with(
        json!({"allowPrivilegeEscalation": false, "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"}}),
        json!({"capabilities": {"add": ["SYS_ADMIN"]}}),
    );
    check(
        "restricted:v1.21",
        adds,
        "non-default capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
    );
}

#[test]
fn labels_stand_for_a_policy() {
    let plain = Policy::default();
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/enforce-version": "v1.30"});
    let (policy, errors) = of_labels(&labels, &plain);
    assert!(errors.is_empty());
    assert_eq!(policy.enforce.to_string(), "baseline:v1.30");
    assert_eq!(policy.warn.to_string(), "baseline:v1.30", "who enforces is warned too");
    assert_eq!(policy.audit.to_string(), "baseline:v1.30");
    let standard = |level| Standard { level, ..Standard::default() };
    let strict = Policy { enforce: standard(Level::Baseline), audit: standard(Level::Restricted), ..plain };
    assert_eq!(of_labels(&json!({}), &strict).0, strict, "what labels do not say is as configured");
    let relaxed = of_labels(&json!({"pod-security.kubernetes.io/enforce": "privileged"}), &strict).0;
    assert_eq!(relaxed, Policy { enforce: standard(Level::Privileged), ..strict });
    let labels = json!({"pod-security.kubernetes.io/enforce": "x",
        "pod-security.kubernetes.io/warn-version": "v1.01"});
    let (policy, errors) = of_labels(&labels, &plain);
    assert_eq!(policy.enforce.level, Level::Restricted, "what cannot be read is refused at its strictest");
    assert_eq!(policy.warn.level, Level::Privileged);
    assert_eq!(
        errors.messages(),
        [
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v1.01\": must be \"latest\" or \"v1.x\"",
        ]
    );
}

#[test]
fn profiles_stood_in_annotations_once() {
    let meta = json!({"annotations": {
        "seccomp.security.alpha.kubernetes.io/pod": "unconfined",
        "container.seccomp.security.alpha.kubernetes.io/c": "docker/default",
        "container.seccomp.security.alpha.kubernetes.io/gone": "unconfined",
    }});
    let spec = one(json!({"seccompProfile": {"type": "Unconfined"}}));
    let told = |at: &str| told(&violations(standard(at), &meta, &spec));
    assert_eq!(
        told("baseline:v1.18"),
        "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")"
    );
    assert_eq!(
        told("baseline:v1.19"),
        "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")"
    );
}

#[test]
fn what_is_in_quotes_stays_as_it_is() {
    let meta = json!({"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}});
    let found = violations(standard("baseline:latest"), &meta, &one(json!({})));
    assert_eq!(
        told(&found),
        "forbidden AppArmor profile (annotation must not set AppArmor profile type to \
         \"container.apparmor.security.beta.kubernetes.io/c=\"unconfined\"\")"
    );
}

#[test]
fn an_unmasked_proc_is_told_once() {
    let spec = json!({"hostUsers": false, "containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]});
    let count = |at: &str| {
        violations(standard(at), &json!({}), &spec).iter().filter(|v| v.reason == "procMount").count()
    };
    assert_eq!((count("restricted:latest"), count("restricted:v1.34"), count("baseline:latest")), (1, 1, 0));
}

#[test]
fn updates_matter_where_images_change() {
    let pod = |image: &str, ephemeral: Value| json!({"spec": {"containers": [{"name": "c", "image": image}], "ephemeralContainers": ephemeral}});
    let debug = json!([{"name": "d", "image": "x"}]);
    assert!(!is_significant(&pod("a", json!([])), &pod("a", debug.clone())));
    assert!(is_significant(&pod("b", json!([])), &pod("a", json!([]))));
    assert!(is_significant(&pod("a", debug), &pod("a", json!([]))));
}
