//! Since when a change waits to be seen behind a Service: written on what is made from the change, so that whoever applies
//! it can say how long it took.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::controllers::machinery::Key;
use crate::controllers::machinery::meta::name;

/// Annotation with the time.
pub const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What was seen of each Service when it was looked at last. Lost with the process, which costs one measurement.
#[derive(Default)]
pub struct Triggers(Mutex<HashMap<Key, Seen>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    service: Option<Timestamp>,
    pods: HashMap<String, Timestamp>,
}

impl Triggers {
    /// The earliest change of a Service and its pods since the last look; `None` where nothing changed that has a time.
    pub fn since_last_look(
        &self,
        key: &Key,
        service: &Service,
        pods: &[impl AsRef<Pod>],
    ) -> Option<Timestamp> {
        let now = Seen {
            service: service.metadata.creation_timestamp.as_ref().map(|t| t.0),
            pods: pods.iter().map(AsRef::as_ref).filter_map(turned).collect(),
        };
        let first = changed(self.0.lock().get(key), &now);
        self.0.lock().insert(key.clone(), now);
        first
    }

    /// Forgets a Service that is gone.
    pub fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}

/// When a pod became ready, or stopped being so.
fn turned(pod: &Pod) -> Option<(String, Timestamp)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|c| c.type_ == "Ready")?;
    Some((name(&pod.metadata).to_owned(), ready.last_transition_time.as_ref()?.0))
}

fn changed(before: Option<&Seen>, now: &Seen) -> Option<Timestamp> {
    // A new Service waits since it was made, whatever its pods did before.
    let Some(before) = before else { return now.service };
    let pods = now.pods.iter().filter(|(pod, at)| before.pods.get(*pod).is_none_or(|then| *at > then));
    let service = now.service.filter(|at| before.service.is_none_or(|then| *at > then));
    pods.map(|(_, at)| *at).chain(service).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(service: i64, pods: &[(&str, i64)]) -> Seen {
        let at = |second| Timestamp::from_second(second).unwrap();
        Seen {
            service: Some(at(service)),
            pods: pods.iter().map(|(n, t)| ((*n).to_owned(), at(*t))).collect(),
        }
    }

    #[test]
    fn the_earliest_of_what_changed_since_counts() {
        let second = |before: Option<&Seen>, now: &Seen| changed(before, now).map(Timestamp::as_second);
        let before = seen(5, &[("a", 10), ("b", 20)]);
        assert_eq!(second(None, &before), Some(5), "a Service not seen before");
        assert_eq!(second(Some(&before), &before), None);
        assert_eq!(second(Some(&before), &seen(5, &[("a", 30), ("b", 25)])), Some(25));
        assert_eq!(second(Some(&before), &seen(5, &[("a", 10), ("c", 3)])), Some(3), "another pod");
        assert_eq!(second(Some(&before), &seen(5, &[])), None, "a pod that left says no time");
        assert_eq!(second(Some(&before), &seen(40, &[("a", 50)])), Some(40), "the Service made anew");
    }
}
