//! Daemons that fail again and again are replaced ever more slowly, node by node.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::controllers::machinery::meta::until;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);

#[derive(Clone, Copy, Debug)]
struct Pause {
    length: Duration,
    ends: Timestamp,
}

/// How long to wait for each set and node.
#[derive(Debug, Default)]
pub struct Patience {
    pauses: Mutex<HashMap<(String, String), Pause>>,
}

impl Patience {
    /// How much of a node's pause is left; where none is, the failure is noted and the next pause begins.
    pub fn left(&self, set: &str, node: &str, now: Timestamp) -> Option<Duration> {
        let mut pauses = self.pauses.lock();
        let key = (set.to_owned(), node.to_owned());
        let plus = |length: Duration| now.checked_add(length).unwrap_or(Timestamp::MAX);
        let length = match pauses.get(&key) {
            Some(pause) if pause.ends > now => return Some(until(now, pause.ends)),
            // Who was well for a long time begins anew.
            Some(pause) if pause.ends.checked_add(2 * LONGEST).is_ok_and(|over| over < now) => FIRST,
            Some(pause) => (pause.length * 2).min(LONGEST),
            None => FIRST,
        };
        pauses.retain(|_, p| p.ends.checked_add(2 * LONGEST).is_ok_and(|over| over > now));
        pauses.insert(key, Pause { length, ends: plus(length) });
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_failures_go_on() {
        let patience = Patience::default();
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let left = |seconds| patience.left("u", "n", at(seconds)).map(|d| d.as_secs());
        assert_eq!(left(0), None);
        assert_eq!(left(0), Some(1));
        assert_eq!(left(1), None);
        assert_eq!(left(1), Some(2));
        assert_eq!(left(3), None);
        assert_eq!(left(4), Some(3));
        assert_eq!(patience.left("u", "other", at(4)), None, "each node by itself");
        assert_eq!(left(10_000), None);
        assert_eq!(left(10_000), Some(1), "who was well for long begins anew");
    }
}
