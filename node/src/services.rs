//! The cluster's Services, as this node knows them: written by the service proxy, which follows them, and
//! read by whoever else needs them (containers' environments).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use parking_lot::RwLock;
use tokio::sync::watch;

/// How long a reader waits for the first list.
const PATIENCE: Duration = Duration::from_secs(10);

/// Services by namespace and name.
type Table = BTreeMap<String, BTreeMap<String, Arc<Service>>>;

/// What is known of Services. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Services {
    table: Arc<RwLock<Table>>,
    listed: Arc<watch::Sender<bool>>,
}

impl Default for Services {
    fn default() -> Self {
        Services { table: Arc::default(), listed: Arc::new(watch::Sender::new(false)) }
    }
}

fn place(service: &Service) -> (String, String) {
    let meta = &service.metadata;
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

impl Services {
    /// Replaces all.
    pub fn replace(&self, services: impl IntoIterator<Item = Arc<Service>>) {
        let mut table = Table::new();
        for service in services {
            let (namespace, name) = place(&service);
            table.entry(namespace).or_default().insert(name, service);
        }
        *self.table.write() = table;
        self.listed.send_replace(true);
    }

    /// Takes one in.
    pub fn put(&self, service: Arc<Service>) {
        let (namespace, name) = place(&service);
        self.table.write().entry(namespace).or_default().insert(name, service);
    }

    /// Takes one out.
    pub fn remove(&self, service: &Service) {
        let (namespace, name) = place(service);
        let mut table = self.table.write();
        if let Some(of) = table.get_mut(&namespace) {
            of.remove(&name);
            if of.is_empty() {
                table.remove(&namespace);
            }
        }
    }

    /// Waits until Services have been listed once; `false` when that takes too long.
    pub async fn known(&self) -> bool {
        let mut listed = self.listed.subscribe();
        matches!(tokio::time::timeout(PATIENCE, listed.wait_for(|l| *l)).await, Ok(Ok(_)))
    }

    /// One Service.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.table.read().get(namespace)?.get(name).cloned()
    }

    /// A namespace's Services, by name.
    pub fn of(&self, namespace: &str) -> Vec<Arc<Service>> {
        self.table.read().get(namespace).map(|of| of.values().cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str, name: &str) -> Arc<Service> {
        let mut service = Service::default();
        service.metadata.namespace = Some(namespace.to_owned());
        service.metadata.name = Some(name.to_owned());
        Arc::new(service)
    }

    #[tokio::test(start_paused = true)]
    async fn readers_wait_for_the_first_list_and_see_changes() {
        let services = Services::default();
        assert!(!services.known().await, "nobody lists");
        services.replace([service("a", "x"), service("a", "y"), service("b", "z")]);
        assert!(services.known().await);
        services.put(service("a", "w"));
        services.remove(&service("a", "y"));
        services.remove(&service("b", "z"));
        let names: Vec<_> = services.of("a").iter().map(|s| place(s).1).collect();
        assert_eq!(names, ["w", "x"]);
        assert!(services.of("b").is_empty() && services.get("a", "y").is_none());
    }
}
