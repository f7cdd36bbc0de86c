//! An object for each kind whose whole API is tried. They do nothing: where something could come of one, it is
//! suspended, of nobody's class, or selects nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::sample::{Sample, inside, named, outside, with_status, with_status_alone};
use crate::scene::{pod_spec, template};

fn workload(_: &str, _: u8) -> Value {
    json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "sample"}}, "template": template("sample")}})
}

fn finishing() -> Value {
    let mut spec = pod_spec();
    spec["restartPolicy"] = "Never".into();
    json!({"suspend": true, "template": {"spec": spec}})
}

fn policy_rules() -> Value {
    json!({"resourceRules": [{"apiGroups": ["none.example.com"], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": ["nothings"]}]})
}

fn webhooks() -> Value {
    json!([{"name": "none.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"url": "https://127.0.0.1:9/none"},
        "rules": [{"apiGroups": ["none.example.com"], "apiVersions": ["v1"], "operations": ["CREATE"],
            "resources": ["nothings"]}]}])
}

/// A request that nobody here signs.
fn request() -> String {
    let key = rcgen::KeyPair::generate().expect("a key");
    let request = rcgen::CertificateParams::default().serialize_request(&key).expect("a request");
    STANDARD.encode(request.pem().expect("PEM"))
}

fn device_request() -> Value {
    json!({"devices": {"requests": [{"name": "one", "exactly": {"deviceClassName": "none.example.com"}}]}})
}

const ADMISSION: &str = "admissionregistration.k8s.io/v1";
const RBAC: &str = "rbac.authorization.k8s.io/v1";
const STORAGE: &str = "storage.k8s.io/v1";
const NETWORKING: &str = "networking.k8s.io/v1";
const DEVICES: &str = "resource.k8s.io/v1";
const FLOW: &str = "flowcontrol.apiserver.k8s.io/v1";

/// All samples.
pub static ALL: &[Sample] = &[
    inside("v1", "configmaps", "ConfigMap", |_, n| json!({"data": {"number": n.to_string()}})),
    inside("v1", "secrets", "Secret", |_, n| json!({"stringData": {"number": n.to_string()}})),
    inside("v1", "serviceaccounts", "ServiceAccount", |_, _| json!({})),
    inside(
        "v1",
        "limitranges",
        "LimitRange",
        |_, _| json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "9"}}]}}),
    ),
    inside("v1", "podtemplates", "PodTemplate", |_, _| json!({"template": template("sample")})),
    inside(
        "v1",
        "events",
        "Event",
        |ns, _| json!({"involvedObject": {"kind": "Pod", "name": "none", "namespace": ns}, "reason": "Sample", "type": "Normal"}),
    ),
    inside(
        "v1",
        "endpoints",
        "Endpoints",
        |_, n| json!({"subsets": [{"addresses": [{"ip": format!("10.3.0.{n}")}], "ports": [{"port": 80}]}]}),
    ),
    with_status(inside("v1", "services", "Service", |_, _| json!({"spec": {"ports": [{"port": 80}]}}))),
    with_status(inside(
        "v1",
        "resourcequotas",
        "ResourceQuota",
        |_, _| json!({"spec": {"hard": {"services": "99"}}}),
    )),
    with_status(inside(
        "v1",
        "replicationcontrollers",
        "ReplicationController",
        |_, _| json!({"spec": {"replicas": 0, "selector": {"app": "sample"}, "template": template("sample")}}),
    )),
    with_status(inside("v1", "pods", "Pod", |_, _| {
        let mut spec = pod_spec();
        spec["schedulingGates"] = json!([{"name": "example.com/never"}]);
        json!({"spec": spec})
    })),
    with_status(inside("v1", "persistentvolumeclaims", "PersistentVolumeClaim", |_, _| {
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "none",
            "resources": {"requests": {"storage": "1Gi"}}}})
    })),
    with_status(outside("v1", "persistentvolumes", "PersistentVolume", |_, _| {
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "none-of-a-sample",
            "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/none"}}})
    })),
    with_status(outside("v1", "nodes", "Node", |_, _| json!({"spec": {"unschedulable": true}}))),
    with_status(inside("apps/v1", "deployments", "Deployment", workload)),
    with_status(inside("apps/v1", "replicasets", "ReplicaSet", workload)),
    with_status(inside("apps/v1", "statefulsets", "StatefulSet", workload)),
    with_status(inside("apps/v1", "daemonsets", "DaemonSet", |_, _| {
        let mut template = template("sample");
        template["spec"]["nodeSelector"] = json!({"of": "nobody"});
        json!({"spec": {"selector": {"matchLabels": {"app": "sample"}}, "template": template}})
    })),
    inside(
        "apps/v1",
        "controllerrevisions",
        "ControllerRevision",
        |_, n| json!({"revision": n + 1, "data": {"spec": {"number": n}}}),
    ),
    with_status(inside(
        "batch/v1",
        "cronjobs",
        "CronJob",
        |_, _| json!({"spec": {"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": finishing()}}}),
    )),
    with_status(inside("batch/v1", "jobs", "Job", |_, _| json!({"spec": finishing()}))),
    with_status(inside("autoscaling/v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler", |_, _| {
        json!({"spec": {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment",
            "name": "none"}}})
    })),
    with_status(inside("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", |_, _| {
        json!({"spec": {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment",
            "name": "none"}}})
    })),
    with_status(inside(
        "policy/v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        |_, _| json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "sample"}}}}),
    )),
    inside("events.k8s.io/v1", "events", "Event", |ns, _| {
        json!({"eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/sample",
            "reportingInstance": "one", "action": "Try", "reason": "Sample", "type": "Normal", "note": "a sample",
            "regarding": {"kind": "Pod", "name": "none", "namespace": ns}})
    }),
    inside(
        "coordination.k8s.io/v1",
        "leases",
        "Lease",
        |_, n| json!({"spec": {"holderIdentity": format!("holder-{n}"), "leaseDurationSeconds": 30}}),
    ),
    inside("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", |_, n| {
        json!({"addressType": "IPv4", "endpoints": [{"addresses": [format!("10.3.1.{n}")]}],
            "ports": [{"name": "", "port": 80}]})
    }),
    with_status(inside(NETWORKING, "ingresses", "Ingress", |_, n| {
        json!({"spec": {"ingressClassName": "none", "rules": [{"host": format!("h{n}.example.com"), "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "none", "port": {"number": 80}}}}]}}]}})
    })),
    inside(
        NETWORKING,
        "networkpolicies",
        "NetworkPolicy",
        |_, _| json!({"spec": {"podSelector": {"matchLabels": {"app": "sample"}}, "policyTypes": ["Ingress"]}}),
    ),
    outside(
        NETWORKING,
        "ingressclasses",
        "IngressClass",
        |_, _| json!({"spec": {"controller": "example.com/sample"}}),
    ),
    named(
        outside(
            NETWORKING,
            "ipaddresses",
            "IPAddress",
            |_, n| json!({"spec": {"parentRef": {"group": "", "resource": "services", "name": format!("s{n}"), "namespace": "default"}}}),
        ),
        |n| format!("192.0.2.{}", n + 1),
    ),
    // Of the family that the cluster has none of: nobody takes an address of it meanwhile.
    with_status_alone(outside(
        NETWORKING,
        "servicecidrs",
        "ServiceCIDR",
        |_, n| json!({"spec": {"cidrs": [format!("2001:db8:{}::/112", n + 1)]}}),
    )),
    inside(
        RBAC,
        "roles",
        "Role",
        |_, _| json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
    ),
    inside(
        RBAC,
        "rolebindings",
        "RoleBinding",
        |_, _| json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "none"}}),
    ),
    outside(
        RBAC,
        "clusterroles",
        "ClusterRole",
        |_, _| json!({"rules": [{"nonResourceURLs": ["/none"], "verbs": ["get"]}]}),
    ),
    outside(
        RBAC,
        "clusterrolebindings",
        "ClusterRoleBinding",
        |_, _| json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "none"}}),
    ),
    outside(STORAGE, "storageclasses", "StorageClass", |_, _| json!({"provisioner": "example.com/sample"})),
    outside(STORAGE, "csidrivers", "CSIDriver", |_, _| json!({"spec": {"attachRequired": false}})),
    outside(STORAGE, "csinodes", "CSINode", |_, _| json!({"spec": {"drivers": []}})),
    inside(
        STORAGE,
        "csistoragecapacities",
        "CSIStorageCapacity",
        |_, n| json!({"storageClassName": "none", "capacity": format!("{}Gi", n + 1), "nodeTopology": {"matchLabels": {"of": "x"}}}),
    ),
    with_status_alone(outside(STORAGE, "volumeattachments", "VolumeAttachment", |_, _| {
        json!({"spec": {"attacher": "none.example.com", "nodeName": "none",
            "source": {"persistentVolumeName": "none"}}})
    })),
    outside(
        STORAGE,
        "volumeattributesclasses",
        "VolumeAttributesClass",
        |_, n| json!({"driverName": "example.com", "parameters": {"iops": n.to_string()}}),
    ),
    outside("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", |_, n| json!({"value": n})),
    outside("node.k8s.io/v1", "runtimeclasses", "RuntimeClass", |_, _| json!({"handler": "none"})),
    with_status(outside(
        "certificates.k8s.io/v1",
        "certificatesigningrequests",
        "CertificateSigningRequest",
        |_, _| json!({"spec": {"signerName": "example.com/sample", "usages": ["client auth"], "request": request()}}),
    )),
    outside(
        ADMISSION,
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        |_, _| json!({"webhooks": webhooks()}),
    ),
    outside(
        ADMISSION,
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        |_, _| json!({"webhooks": webhooks()}),
    ),
    with_status_alone(outside(
        ADMISSION,
        "validatingadmissionpolicies",
        "ValidatingAdmissionPolicy",
        |_, _| json!({"spec": {"matchConstraints": policy_rules(), "validations": [{"expression": "true"}]}}),
    )),
    outside(
        ADMISSION,
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        |_, _| json!({"spec": {"policyName": "none", "validationActions": ["Deny"]}}),
    ),
    outside(ADMISSION, "mutatingadmissionpolicies", "MutatingAdmissionPolicy", |_, _| {
        json!({"spec": {"matchConstraints": policy_rules(), "reinvocationPolicy": "Never", "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}]}})
    }),
    outside(
        ADMISSION,
        "mutatingadmissionpolicybindings",
        "MutatingAdmissionPolicyBinding",
        |_, _| json!({"spec": {"policyName": "none"}}),
    ),
    with_status_alone(outside(FLOW, "flowschemas", "FlowSchema", |_, _| {
        json!({"spec": {"matchingPrecedence": 10000, "priorityLevelConfiguration": {"name": "none"},
            "rules": [{"subjects": [{"kind": "User", "user": {"name": "nobody"}}],
                "nonResourceRules": [{"nonResourceURLs": ["/none"], "verbs": ["get"]}]}]}})
    })),
    with_status_alone(outside(
        FLOW,
        "prioritylevelconfigurations",
        "PriorityLevelConfiguration",
        |_, _| json!({"spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}}),
    )),
    outside(
        DEVICES,
        "deviceclasses",
        "DeviceClass",
        |_, _| json!({"spec": {"selectors": [{"cel": {"expression": "device.driver == 'none'"}}]}}),
    ),
    with_status_alone(inside(
        DEVICES,
        "resourceclaims",
        "ResourceClaim",
        |_, _| json!({"spec": device_request()}),
    )),
    inside(
        DEVICES,
        "resourceclaimtemplates",
        "ResourceClaimTemplate",
        |_, _| json!({"spec": {"spec": device_request()}}),
    ),
    outside(DEVICES, "resourceslices", "ResourceSlice", |_, n| {
        json!({"spec": {"driver": "none.example.com", "nodeName": format!("none-{n}"),
            "pool": {"name": format!("pool-{n}"), "resourceSliceCount": 1, "generation": 1}, "devices": []}})
    }),
    with_status_alone(named(
        outside("apiregistration.k8s.io/v1", "apiservices", "APIService", |_, n| {
            json!({"spec": {"group": format!("g{n}.example.org"), "version": "v1", "groupPriorityMinimum": 100,
            "versionPriority": 10, "service": {"name": "none", "namespace": "default"},
            "insecureSkipTLSVerify": true}})
        }),
        |n| format!("v1.g{n}.example.org"),
    )),
];
