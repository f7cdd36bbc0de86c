//! Which events become new objects, which only raise a count, and which are dropped. Pure.
//!
//! As upstream's correlator: an event equal to an earlier one raises its count; more than ten events in ten
//! minutes that differ only in their message become one combined event; beyond a burst of 25, an object
//! gets one event in five minutes from the same source.

use std::collections::HashMap;
use std::hash::Hash;

use k8s_openapi::api::core::v1::{Event, EventSeries, EventSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{Source, Telling};

/// Similar events within [`SIMILAR_SECONDS`] beyond which they are combined.
pub const SIMILAR_MAX: usize = 10;
/// Time in which similar events are counted.
pub const SIMILAR_SECONDS: i64 = 600;
/// Events about one object from one source at once.
pub const BURST_MAX: f64 = 25.0;
/// Seconds until one more is let through.
pub const REFILL_SECONDS: f64 = 300.0;
/// What combined events begin with.
const COMBINED: &str = "(combined from similar events)";
/// Objects and events that are remembered.
const REMEMBERED_MAX: usize = 4096;

/// One write to the API.
#[derive(Clone, Debug)]
pub enum Write {
    /// A new event.
    Create {
        /// The object.
        event: Box<Event>,
        /// What it is remembered under.
        key: EventKey,
    },
    /// An event seen before.
    Patch {
        /// The whole object, should the earlier one be gone.
        event: Box<Event>,
        /// The earlier one's name.
        name: String,
        /// Raises its count.
        patch: Value,
        /// What it is remembered under.
        key: EventKey,
    },
}

/// Object and source.
type About = (String, String, String);
/// Object, type and reason: events that differ only in their message.
type Similar = (About, &'static str, String);
/// Equal events.
pub type EventKey = (Similar, String);

#[derive(Clone, Debug)]
struct Seen {
    name: String,
    count: i32,
    first: Timestamp,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

#[derive(Debug)]
struct Group {
    messages: Vec<String>,
    last: Timestamp,
}

/// A map that forgets everything when it grows too large: what is forgotten only costs one more event.
#[derive(Debug)]
struct Bounded<K, V>(HashMap<K, V>);

impl<K: Eq + Hash, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Bounded(HashMap::new())
    }
}

impl<K: Eq + Hash, V> Bounded<K, V> {
    fn entry(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        if self.0.len() >= REMEMBERED_MAX && !self.0.contains_key(&key) {
            self.0.clear();
        }
        self.0.entry(key).or_insert_with(new)
    }
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub struct Correlator {
    buckets: Bounded<About, Bucket>,
    groups: Bounded<Similar, Group>,
    seen: Bounded<EventKey, Seen>,
    /// The moment in the last name that was given, in nanoseconds.
    named: i128,
}

impl Correlator {
    /// The moment for a new event's name. Clocks are coarser than what a busy component tells, and a name that is
    /// taken would lose the event, so no two are the same.
    fn moment(&mut self, now: Timestamp) -> i128 {
        self.named = now.as_nanosecond().max(self.named + 1);
        self.named
    }

    /// Decides what to write; `None` for nothing.
    pub fn correlate(&mut self, source: &Source, mut t: Telling) -> Option<Write> {
        let object = [&t.about.kind, &t.about.namespace, &t.about.name, &t.about.uid, &t.about.field_path];
        let object: Vec<&str> = object.iter().map(|p| p.as_deref().unwrap_or_default()).collect();
        let about: About = (object.join("/"), source.component.to_string(), source.host.to_string());

        let similar: Similar = (about.clone(), t.kind, t.reason.clone());
        let now = t.at;
        let group = self.groups.entry(similar.clone(), || Group { messages: Vec::new(), last: now });
        if now.as_second() - group.last.as_second() > SIMILAR_SECONDS {
            group.messages.clear();
        }
        group.last = now;
        if !group.messages.contains(&t.message) && group.messages.len() < SIMILAR_MAX {
            group.messages.push(t.message.clone());
        }
        // The newer way tells each.
        let combined = t.action.is_none()
            && group.messages.len() >= SIMILAR_MAX
            && !group.messages[..SIMILAR_MAX - 1].contains(&t.message);
        let key: EventKey = if combined {
            t.message = format!("{COMBINED}: {}", t.message);
            // All combined ones are one event, whatever their message.
            (similar, String::new())
        } else {
            // In the newer way an event is one of an object in one state.
            let state = t.action.and(t.about.resource_version.as_deref()).unwrap_or_default();
            (similar, format!("{state} {}", t.message))
        };

        let bucket = self.buckets.entry(about, || Bucket { tokens: BURST_MAX, at: now });
        let elapsed = (now.as_millisecond() - bucket.at.as_millisecond()).max(0) as f64 / 1000.0;
        bucket.tokens = (bucket.tokens + elapsed / REFILL_SECONDS).min(BURST_MAX);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return None;
        }
        bucket.tokens -= 1.0;

        let seen = self.seen.0.get(&key).cloned();
        let (count, first) = seen.as_ref().map_or((1, now), |s| (s.count + 1, s.first));
        let event = Box::new(event(source, &t, (count, first), self.moment(now)));
        Some(match seen {
            None => Write::Create { event, key },
            Some(seen) => {
                let patch = match t.action {
                    None => json!({"count": count, "lastTimestamp": time(now), "message": t.message}),
                    Some(_) => json!({"series": {"count": count, "lastObservedTime": MicroTime(now)}}),
                };
                Write::Patch { event, name: seen.name, patch, key }
            }
        })
    }

    /// Remembers a write that the server took, with the name that it has there.
    pub fn written(&mut self, write: &Write, name: String) {
        let (Write::Create { event, key } | Write::Patch { event, key, .. }) = write;
        let series = event.series.as_ref().and_then(|s| s.count);
        let count = event.count.or(series).unwrap_or(1);
        let first = event.first_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0);
        let seen = self.seen.entry(key.clone(), || Seen { name: String::new(), count, first });
        *seen = Seen { name, count, first };
    }
}

/// `now` as the API writes times: whole seconds.
fn time(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

fn event(source: &Source, t: &Telling, (count, first): (i32, Timestamp), moment: i128) -> Event {
    let namespace =
        t.about.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".to_owned());
    let about = t.about.name.as_deref().unwrap_or_default();
    let told = Event {
        metadata: ObjectMeta {
            name: Some(format!("{about}.{moment:x}")),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        involved_object: t.about.clone(),
        reason: Some(t.reason.clone()),
        message: Some(t.message.clone()),
        type_: Some(t.kind.to_owned()),
        ..Event::default()
    };
    let component = || source.component.to_string();
    let Some(action) = t.action else {
        return Event {
            count: Some(count),
            first_timestamp: Some(time(first)),
            last_timestamp: Some(time(t.at)),
            source: Some(EventSource {
                component: Some(component()),
                host: Some(source.host.to_string()).filter(|h| !h.is_empty()),
            }),
            // Of combined events upstream says who told them in the older field alone.
            reporting_component: (!t.message.starts_with(COMBINED)).then(component),
            reporting_instance: Some(source.host.to_string()),
            ..told
        };
    };
    // Who reports must be said in both parts.
    let instance = if source.host.is_empty() { &source.component } else { &source.host };
    let series = EventSeries { count: Some(count), last_observed_time: Some(MicroTime(t.at)) };
    Event {
        action: Some(action.to_owned()),
        event_time: Some(MicroTime(t.at)),
        series: (count > 1).then_some(series),
        reporting_component: Some(component()),
        reporting_instance: Some(instance.to_string()),
        ..told
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;

    use super::*;

    fn telling(message: &str, second: i64) -> Telling {
        Telling {
            about: ObjectReference { name: Some("web".to_owned()), ..ObjectReference::default() },
            kind: "Normal",
            reason: "Scaled".to_owned(),
            message: message.to_owned(),
            action: None,
            at: Timestamp::from_second(1_767_225_600 + second).unwrap(),
        }
    }

    #[test]
    fn what_is_told_the_newer_way_has_a_series_and_no_count() {
        let mut c = Correlator::default();
        let act = |c: &mut Correlator, message: &str, second: i64| {
            let telling = Telling { action: Some("Binding"), ..telling(message, second) };
            c.correlate(&Source::master("test", "test"), telling).unwrap()
        };
        let first = act(&mut c, "a", 0);
        let Write::Create { event, .. } = &first else { panic!("{first:?}") };
        assert_eq!(
            (event.action.as_deref(), event.count, event.source.is_none()),
            (Some("Binding"), None, true)
        );
        assert!(event.event_time.is_some() && event.first_timestamp.is_none() && event.series.is_none());
        c.written(&first, "web.1".to_owned());
        let Write::Patch { name, patch, .. } = act(&mut c, "a", 5) else { panic!("not a repetition") };
        assert_eq!((name.as_str(), &patch["series"]["count"]), ("web.1", &json!(2)));
        assert!(matches!(act(&mut c, "b", 6), Write::Create { .. }), "another message is another event");
        let mut changed = Telling { action: Some("Binding"), ..telling("a", 7) };
        changed.about.resource_version = Some("8".to_owned());
        let again = c.correlate(&Source::master("test", "test"), changed);
        assert!(matches!(again, Some(Write::Create { .. })), "another state is another event");
    }

    fn tell(c: &mut Correlator, message: &str, second: i64) -> Option<Write> {
        let write = c.correlate(&Source::master("test", "test"), telling(message, second))?;
        let name = match &write {
            Write::Create { event, .. } => event.metadata.name.clone().unwrap(),
            Write::Patch { name, .. } => name.clone(),
        };
        c.written(&write, name);
        Some(write)
    }

    #[test]
    fn equal_events_are_counted() {
        let mut c = Correlator::default();
        let Some(Write::Create { event, .. }) = tell(&mut c, "one", 0) else { panic!("no event") };
        assert_eq!(event.count, Some(1));
        let Some(Write::Patch { name, patch, .. }) = tell(&mut c, "one", 5) else { panic!("no patch") };
        assert_eq!(Some(name), event.metadata.name);
        assert_eq!(patch["count"], 2);
        assert_eq!(patch["lastTimestamp"], "2026-01-01T00:00:05Z");
    }

    #[test]
    fn events_of_one_moment_have_names_of_their_own() {
        let mut c = Correlator::default();
        let name = |write: Option<Write>| match write {
            Some(Write::Create { event, .. }) => event.metadata.name.unwrap(),
            _ => panic!("no event"),
        };
        assert_ne!(name(tell(&mut c, "one", 0)), name(tell(&mut c, "two", 0)));
    }

    #[test]
    fn similar_events_are_combined() {
        let mut c = Correlator::default();
        let writes: Vec<Write> = (0..14).map(|n| tell(&mut c, &format!("pod {n}"), n).unwrap()).collect();
        let created = writes.iter().filter(|w| matches!(w, Write::Create { .. })).count();
        assert_eq!(created, SIMILAR_MAX);
        let Write::Patch { patch, .. } = writes.last().unwrap() else { panic!("not combined") };
        assert_eq!(patch["message"], "(combined from similar events): pod 13");
        // Much later they are new again.
        assert!(matches!(tell(&mut c, "pod 99", 2000), Some(Write::Create { .. })));
    }

    #[test]
    fn endless_talk_is_cut_off() {
        let mut c = Correlator::default();
        let told = (0..100).filter(|_| tell(&mut c, "again", 0).is_some()).count();
        assert_eq!(told, 25);
        assert!(tell(&mut c, "again", 299).is_none());
        assert!(tell(&mut c, "again", 300).is_some());
    }
}
