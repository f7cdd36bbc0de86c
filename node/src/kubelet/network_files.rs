//! The pod's /etc/resolv.conf and /etc/hosts. Pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::PodSpec;

/// The most search domains that resolvers take.
const SEARCHES_MAX: usize = 32;

/// The pod's resolv.conf; `host` is the host's.
pub fn resolv_conf(spec: &PodSpec, namespace: &str, dns: Option<IpAddr>, domain: &str, host: &str) -> String {
    let host_network = spec.host_network == Some(true);
    let mut servers: Vec<String> = Vec::new();
    let mut searches: Vec<String> = Vec::new();
    let mut options: Vec<String> = Vec::new();
    match (spec.dns_policy.as_deref().unwrap_or("ClusterFirst"), dns) {
        ("None", _) => {}
        ("ClusterFirst", Some(dns)) if !host_network => {
            cluster(namespace, dns, domain, &mut servers, &mut searches, &mut options)
        }
        ("ClusterFirstWithHostNet", Some(dns)) => {
            cluster(namespace, dns, domain, &mut servers, &mut searches, &mut options);
        }
        _ => parse(host, &mut servers, &mut searches, &mut options),
    }
    if servers_from_cluster(spec, dns, host_network) {
        // The host's own search domains come after the cluster's.
        let mut of_host = Vec::new();
        parse(host, &mut Vec::new(), &mut of_host, &mut Vec::new());
        searches.extend(of_host);
    }
    if let Some(config) = &spec.dns_config {
        servers.extend(config.nameservers.iter().flatten().cloned());
        searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            options.retain(|o| o.split(':').next() != Some(name.as_str()));
            options.push(match option.value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name,
            });
        }
    }
    dedup(&mut servers);
    dedup(&mut searches);
    searches.truncate(SEARCHES_MAX);
    let mut text = String::new();
    servers.iter().for_each(|s| text.push_str(&format!("nameserver {s}\n")));
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

fn servers_from_cluster(spec: &PodSpec, dns: Option<IpAddr>, host_network: bool) -> bool {
    match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" => dns.is_some() && !host_network,
        "ClusterFirstWithHostNet" => dns.is_some(),
        _ => false,
    }
}

fn cluster(
    namespace: &str,
    dns: IpAddr,
    domain: &str,
    servers: &mut Vec<String>,
    searches: &mut Vec<String>,
    options: &mut Vec<String>,
) {
    servers.push(dns.to_string());
    searches.extend([format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()]);
    options.push("ndots:5".to_owned());
}

fn parse(text: &str, servers: &mut Vec<String>, searches: &mut Vec<String>, options: &mut Vec<String>) {
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => servers.extend(words.next()),
            Some("search") => *searches = words.filter(|w| w != ".").collect(),
            Some("options") => options.extend(words),
            _ => {}
        }
    }
}

fn dedup(all: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|one| seen.insert(one.clone()));
}

/// The pod's /etc/hosts; `host` is the host's file, which pods on the host's network see.
pub fn hosts(
    spec: &PodSpec,
    ips: &[String],
    hostname: &str,
    namespace: &str,
    domain: &str,
    host: &str,
) -> String {
    let mut text = if spec.host_network == Some(true) {
        format!("# Kubernetes-managed hosts file (host network).\n{host}")
    } else {
        let mut text = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost \
                        ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\n\
                        fe00::2\tip6-allrouters\n"
            .to_owned();
        for ip in ips {
            match spec.subdomain.as_deref().filter(|s| !s.is_empty()) {
                Some(sub) => {
                    text.push_str(&format!("{ip}\t{hostname}.{sub}.{namespace}.svc.{domain}\t{hostname}\n"));
                }
                None => text.push_str(&format!("{ip}\t{hostname}\n")),
            }
        }
        text
    };
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.clone().unwrap_or_default().join("\t");
            text.push_str(&format!("{}\t{names}\n", alias.ip));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: serde_json::Value) -> PodSpec {
        let mut value = value;
        value["containers"] = json!([]);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn resolver_files_by_policy() {
        let host = "nameserver 9.9.9.9\nsearch corp.example\noptions rotate\n";
        let dns: IpAddr = "10.96.0.10".parse().unwrap();
        let clustered = "nameserver 10.96.0.10\nsearch ns.svc.cluster.local svc.cluster.local cluster.local \
                         corp.example\noptions ndots:5\n";
        for (value, wanted) in [
            (json!({}), clustered),
            (json!({"hostNetwork": true}), host),
            (json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), clustered),
            (json!({"dnsPolicy": "Default"}), host),
            (
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.b"],
                    "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
                "nameserver 1.1.1.1\nsearch a.b\noptions ndots:2 edns0\n",
            ),
        ] {
            assert_eq!(
                resolv_conf(&spec(value.clone()), "ns", Some(dns), "cluster.local", host),
                wanted,
                "{value}"
            );
        }
        assert_eq!(resolv_conf(&spec(json!({})), "ns", None, "cluster.local", host), host);
    }

    #[test]
    fn hosts_files() {
        let pod =
            spec(json!({"subdomain": "sub", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}));
        let text = hosts(&pod, &["10.0.0.5".to_owned()], "web-0", "ns", "cluster.local", "");
        assert!(text.contains("10.0.0.5\tweb-0.sub.ns.svc.cluster.local\tweb-0\n"), "{text}");
        assert!(text.ends_with("1.2.3.4\ta\tb\n"), "{text}");
    }
}
