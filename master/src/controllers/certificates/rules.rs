//! What each of the cluster's signers certifies. Pure.

use crate::pki::requests::Asked;

/// Clients of the API server.
pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Kubelets, as clients of the API server.
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Kubelets, as servers.
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Anything, without anybody's trust.
pub const LEGACY: &str = "kubernetes.io/legacy-unknown";

const NODES: &str = "system:nodes";
const NODE: &str = "system:node:";

/// Whether a signer is one of the cluster's own.
pub fn is_ours(signer: &str) -> bool {
    matches!(signer, CLIENT | KUBELET_CLIENT | KUBELET_SERVING | LEGACY)
}

/// Why a signer does not certify something; `None` when it does.
pub fn refusal(signer: &str, asked: &Asked, usages: &[String]) -> Option<String> {
    let only = |required: &str| {
        let mut sorted: Vec<&str> = usages.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut two = ["digital signature", required];
        two.sort_unstable();
        sorted == two[..] || sorted == sorted_three("digital signature", "key encipherment", required)
    };
    match signer {
        CLIENT => {
            let allowed =
                |u: &String| matches!(u.as_str(), "digital signature" | "key encipherment" | "client auth");
            match usages.iter().find(|u| !allowed(u)) {
                Some(other) => Some(format!("invalid usage for client certificate: {other}")),
                None if usages.iter().any(|u| u == "client auth") => None,
                None => Some("missing required usage for client certificate: client auth".to_owned()),
            }
        }
        KUBELET_CLIENT => node(asked).or_else(|| {
            if !asked.dns_names.is_empty() {
                return Some("DNS subjectAltNames are not allowed".to_owned());
            }
            if !asked.addresses.is_empty() {
                return Some("IP subjectAltNames are not allowed".to_owned());
            }
            others(asked).or_else(|| (!only("client auth")).then(|| mismatch("client auth")))
        }),
        KUBELET_SERVING => node(asked).or_else(|| {
            if asked.dns_names.is_empty() && asked.addresses.is_empty() {
                return Some("DNS or IP subjectAltName is required".to_owned());
            }
            others(asked).or_else(|| (!only("server auth")).then(|| mismatch("server auth")))
        }),
        _ => None,
    }
}

fn sorted_three<'a>(a: &'a str, b: &'a str, c: &'a str) -> Vec<&'a str> {
    let mut all = vec![a, b, c];
    all.sort_unstable();
    all
}

fn mismatch(required: &str) -> String {
    format!(
        "usages did not match [{}]",
        sorted_three("digital signature", "key encipherment", required).join(" ")
    )
}

fn node(asked: &Asked) -> Option<String> {
    if asked.organizations != [NODES] {
        return Some("subject organization is not system:nodes".to_owned());
    }
    if !asked.common_name.starts_with(NODE) || asked.common_name.len() == NODE.len() {
        return Some("subject common name does not begin with system:node:".to_owned());
    }
    None
}

fn others(asked: &Asked) -> Option<String> {
    (asked.other_names > 0).then(|| "Email and URI subjectAltNames are not allowed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signers_certify_what_they_are_for() {
        let node = Asked {
            common_name: "system:node:a".to_owned(),
            organizations: vec![NODES.to_owned()],
            ..Asked::default()
        };
        let served = Asked { dns_names: vec!["a".to_owned()], ..node.clone() };
        let user = Asked { common_name: "jane".to_owned(), ..Asked::default() };
        let usages = |list: &[&str]| list.iter().map(|u| (*u).to_owned()).collect::<Vec<_>>();
        let client = usages(&["key encipherment", "digital signature", "client auth"]);
        let server = usages(&["digital signature", "server auth"]);
        for (signer, asked, usages, fits) in [
            (KUBELET_CLIENT, &node, &client, true),
            (KUBELET_CLIENT, &node, &usages(&["client auth", "digital signature"]), true),
            (KUBELET_CLIENT, &node, &server, false),
            (KUBELET_CLIENT, &user, &client, false),
            (KUBELET_CLIENT, &served, &client, false),
            (KUBELET_SERVING, &served, &server, true),
            (KUBELET_SERVING, &node, &server, false),
            (CLIENT, &user, &client, true),
            (CLIENT, &user, &server, false),
            (LEGACY, &user, &server, true),
        ] {
            assert_eq!(refusal(signer, asked, usages).is_none(), fits, "{signer} {asked:?} {usages:?}");
        }
    }

    #[test]
    fn a_clients_usages_are_told_one_by_one() {
        for (usages, expected) in [
            (&["client auth"][..], None),
            (&["client auth", "server auth"], Some("invalid usage for client certificate: server auth")),
            (&["key encipherment"], Some("missing required usage for client certificate: client auth")),
        ] {
            let usages: Vec<String> = usages.iter().map(|u| (*u).to_owned()).collect();
            assert_eq!(refusal(CLIENT, &Asked::default(), &usages).as_deref(), expected);
        }
        assert_eq!(
            mismatch("client auth"),
            "usages did not match [client auth digital signature key encipherment]"
        );
    }
}
