//! Conversions that a computation without I/O turns out to need.
//!
//! Who owns which fields is computed on objects in the versions that their managers write. The computation asks
//! here; what is not known is noted, and the object is given back as it is. Whoever runs the computation then has
//! the notes converted and runs it again, until nothing is noted.

use std::collections::HashMap;

use parking_lot::Mutex;
use serde_json::Value;

/// What one request needed converted, and what became of it.
#[derive(Default)]
pub struct Foreseen {
    known: Mutex<HashMap<(String, String), Value>>,
    wanted: Mutex<Vec<(Value, String)>>,
}

impl Foreseen {
    /// An object in another version (such as `example.com/v2`), or, until that is known, as it is.
    pub fn convert(&self, object: &Value, version: &str) -> Value {
        match self.known.lock().get(&(version.to_owned(), object.to_string())) {
            Some(known) => known.clone(),
            None => {
                self.wanted.lock().push((object.clone(), version.to_owned()));
                object.clone()
            }
        }
    }

    /// Takes what was noted.
    pub fn take(&self) -> Vec<(Value, String)> {
        std::mem::take(&mut *self.wanted.lock())
    }

    /// Remembers a conversion.
    pub fn put(&self, object: &Value, version: &str, converted: Value) {
        self.known.lock().insert((version.to_owned(), object.to_string()), converted);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_is_noted_once_asked() {
        let foreseen = Foreseen::default();
        let (object, other) = (json!({"a": 1}), json!({"b": 1}));
        assert_eq!(foreseen.convert(&object, "example.com/v2"), object);
        assert_eq!(foreseen.take(), [(object.clone(), "example.com/v2".to_owned())]);
        foreseen.put(&object, "example.com/v2", other.clone());
        assert_eq!(foreseen.convert(&object, "example.com/v2"), other);
        assert_eq!(foreseen.convert(&object, "example.com/v3"), object);
        assert_eq!(foreseen.take().len(), 1);
    }
}
