//! What was written of events a moment ago: the watchers of a kind write the same ones, at the same time and mostly in
//! the same form.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::Bytes;
use protocol::{WatchEvent, WatchKind};

use super::negotiate::Chosen;

/// Events that a thread remembers.
const EVENTS_MAX: usize = 32;
/// Bytes that one of them may have.
const EVENT_BYTES_MAX: usize = 64 << 10;

thread_local! {
    /// The events written last, newest first.
    static WRITTEN: RefCell<VecDeque<Written>> = const { RefCell::new(VecDeque::new()) };
}

struct Written {
    kind: WatchKind,
    form: Chosen,
    /// Of which object: whoever has it holds the same bytes.
    object: Bytes,
    bytes: Bytes,
}

impl Written {
    fn is(&self, event: &WatchEvent, form: Chosen) -> bool {
        let same = |a: &Bytes, b: &Bytes| a.as_ptr() == b.as_ptr() && a.len() == b.len();
        self.kind == event.kind && self.form == form && same(&self.object, &event.object)
    }
}

/// An event in a form that depends on nothing but the event: as it was written last, or as `write` writes it.
pub(super) fn once(event: &WatchEvent, form: Chosen, write: impl FnOnce() -> Bytes) -> Bytes {
    let known = WRITTEN.with_borrow(|written| {
        written.iter().find(|written| written.is(event, form)).map(|written| written.bytes.clone())
    });
    if let Some(bytes) = known {
        return bytes;
    }
    let bytes = write();
    if bytes.len().max(event.object.len()) <= EVENT_BYTES_MAX {
        let (kind, object) = (event.kind, event.object.clone());
        WRITTEN.with_borrow_mut(|written| {
            written.truncate(EVENTS_MAX - 1);
            written.push_front(Written { kind, form, object, bytes: bytes.clone() });
        });
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn an_event_is_written_once_for_each_form_and_what_is_large_is_not_kept() {
        let event = |object: &Bytes, kind: WatchKind| WatchEvent {
            kind,
            object: object.clone(),
            revision: 7,
            trace: actors::TraceContext::default(),
        };
        let made = Cell::new(0);
        let get = |event: &WatchEvent, form: Chosen| {
            once(event, form, || {
                made.set(made.get() + 1);
                Bytes::from(format!("{} {}", event.kind.as_str(), event.object.len()))
            })
        };
        let (object, equal) = (Bytes::from(vec![b'x'; 10]), Bytes::from(vec![b'x'; 10]));
        let pretty = Chosen { pretty: true, ..Chosen::PLAIN };
        for (object, kind, form, wanted) in [
            (&object, WatchKind::Added, Chosen::PLAIN, 1),
            (&object, WatchKind::Added, Chosen::PLAIN, 1),
            (&object, WatchKind::Modified, Chosen::PLAIN, 2),
            (&object, WatchKind::Added, pretty, 3),
            (&object, WatchKind::Added, Chosen::PLAIN, 3),
            // Other bytes are another object.
            (&equal, WatchKind::Added, Chosen::PLAIN, 4),
        ] {
            assert_eq!(get(&event(object, kind), form), format!("{} 10", kind.as_str()));
            assert_eq!(made.get(), wanted);
        }
        let large = Bytes::from(vec![b'x'; EVENT_BYTES_MAX + 1]);
        for wanted in [5, 6] {
            get(&event(&large, WatchKind::Added), Chosen::PLAIN);
            assert_eq!(made.get(), wanted);
        }
        for _ in 0..EVENTS_MAX {
            get(&event(&Bytes::from(vec![b'y'; 3]), WatchKind::Added), Chosen::PLAIN);
        }
        WRITTEN.with_borrow(|written| assert_eq!(written.len(), EVENTS_MAX));
    }
}
