//! Metrics that are read off the newest snapshot when somebody asks.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::api::custom::Catalog;
use crate::api::custom::kind::is_true;
use crate::cache::Cache;

/// What the cluster holds.
pub struct Cluster {
    cache: Cache,
}

impl Cluster {
    /// Reads a cache.
    pub fn new(cache: Cache) -> Self {
        Cluster { cache }
    }
}

/// `deployments.apps`, as the older of two metrics names kinds.
fn joined(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cluster")
    }
}

impl Collector for Cluster {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (snapshot, catalog) = (self.cache.snapshot(), self.cache.derived::<Catalog>());
        let count =
            |resource: &protocol::Resource| snapshot.count(resource.storage.0, resource.plural) as u64;
        let gauge = MetricType::Gauge;
        let help = "[ALPHA] Number of stored objects at the time of last check split by kind";
        let mut family = encoder.encode_descriptor("apiserver_resource_objects", help, None, gauge)?;
        for resource in catalog.stored() {
            let labels = [("group", resource.group), ("resource", resource.plural)];
            ConstGauge::new(count(resource)).encode(family.encode_family(&labels)?)?;
        }
        let help = "[STABLE] Number of stored objects at the time of last check split by kind; \
                    apiserver_resource_objects tells the group apart";
        let mut family = encoder.encode_descriptor("apiserver_storage_objects", help, None, gauge)?;
        for resource in catalog.stored() {
            let labels = [("resource", joined(resource.group, resource.plural))];
            ConstGauge::new(count(resource)).encode(family.encode_family(&labels)?)?;
        }
        let help =
            "[ALPHA] Gauge of APIServices which are marked as unavailable broken down by APIService name";
        let mut family = encoder.encode_descriptor("aggregator_unavailable_apiservice", help, None, gauge)?;
        for stored in snapshot.list("apiregistration.k8s.io", "apiservices", "") {
            let away = stored.value().is_ok_and(|service| {
                service["spec"]["service"].is_object() && !is_true(&service, "Available")
            });
            let labels = [("name", &*stored.meta.name)];
            ConstGauge::new(u64::from(away)).encode(family.encode_family(&labels)?)?;
        }
        let help = "[BETA] A metric with a constant '1' value labeled by the version that is served and the platform";
        let mut family = encoder.encode_descriptor("kubernetes_build_info", help, None, gauge)?;
        let version = crate::front::discovery::version();
        let labels = [
            ("build_date", version.build_date),
            ("git_commit", version.git_commit),
            ("git_tree_state", version.git_tree_state),
            ("git_version", version.git_version),
            ("major", version.major),
            ("minor", version.minor),
            ("platform", &version.platform),
        ];
        ConstGauge::new(1u64).encode(family.encode_family(&labels)?)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn every_stored_kind_has_its_number() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Cluster::new(Cache::new())));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        for line in [
            "apiserver_resource_objects{group=\"apps\",resource=\"deployments\"} 0",
            "apiserver_storage_objects{resource=\"deployments.apps\"} 0",
            "apiserver_storage_objects{resource=\"pods\"} 0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}: {text}");
        }
        assert!(text.contains("kubernetes_build_info{") && text.contains("git_version=\"v1.36"), "{text}");
    }
}
