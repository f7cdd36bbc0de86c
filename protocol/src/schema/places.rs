//! Where a field of a name stands: a small table of hashes, since every key of every object is looked up in one,
//! several times in each write.
//!
//! It says where a name may stand; whether it does is for whoever asks to compare.

/// A table with open addressing: places are tried one after another, up to an empty one.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// Places, each plus one; 0 is empty. At least half of it is, and its length is a power of two.
    table: Box<[u16]>,
}

impl Places {
    /// The table of names, which are there once each.
    pub(super) fn of<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> Self {
        let mut table = vec![0u16; (names.len() * 2).next_power_of_two()].into_boxed_slice();
        for (place, name) in names.enumerate() {
            let mut at = hash(name);
            loop {
                let slot = at & (table.len() - 1);
                if table[slot] == 0 {
                    // A type has some hundred fields at most.
                    table[slot] = u16::try_from(place + 1).unwrap_or(u16::MAX);
                    break;
                }
                at += 1;
            }
        }
        Places { table }
    }

    /// The places where a name may stand.
    pub(super) fn candidates(&self, name: &str) -> impl Iterator<Item = usize> + '_ {
        let mask = self.table.len().wrapping_sub(1);
        let from = hash(name) & mask;
        (0..self.table.len())
            .map_while(move |step| self.table.get(from.wrapping_add(step) & mask))
            .map_while(|place| usize::from(*place).checked_sub(1))
    }
}

/// Mixes a name's length with its first and last eight bytes, which tell names of fields apart well enough.
fn hash(name: &str) -> usize {
    fn word(bytes: &[u8]) -> u64 {
        match bytes.first_chunk::<8>() {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => bytes.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte)),
        }
    }
    let bytes = name.as_bytes();
    let (first, last) = (word(bytes), word(&bytes[bytes.len().saturating_sub(8)..]));
    let mixed = first ^ last.rotate_left(29) ^ ((bytes.len() as u64) << 56);
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;
    use proptest::prelude::*;

    #[test]
    fn every_field_of_every_type_is_found_and_nothing_else() {
        let mut looked = (0, 0);
        for definition in schema::all().iter().chain([schema::custom()]) {
            for (place, field) in definition.fields.iter().enumerate() {
                assert_eq!(definition.field(field.name).map(|f| f.name), Some(field.name));
                let tried = definition.places.candidates(field.name).position(|at| at == place);
                looked = (looked.0 + 1, looked.1 + tried.expect("it stands there") + 1);
                let longer = format!("{}x", field.name);
                let sorted = definition.fields.binary_search_by(|f| f.name.cmp(longer.as_str()));
                assert_eq!(definition.field(&longer).is_some(), sorted.is_ok(), "{longer}");
            }
            assert!(definition.field("").is_none());
        }
        let (names, tries) = looked;
        assert!(tries * 2 < names * 3, "{names} names take {tries} tries");
    }

    #[test]
    fn an_empty_table_has_no_places() {
        assert_eq!(Places::default().candidates("a").count(), 0);
        assert_eq!(Places::of([].into_iter()).candidates("a").count(), 0);
    }

    proptest! {
        #[test]
        fn names_are_found_whatever_they_are(names in proptest::collection::btree_set(".{0,20}", 0..60), other in ".{0,20}") {
            let places = Places::of(names.iter().map(String::as_str));
            for (place, name) in names.iter().enumerate() {
                prop_assert!(places.candidates(name).any(|at| at == place));
            }
            let found = places.candidates(&other).any(|at| names.iter().nth(at) == Some(&other));
            prop_assert_eq!(found, names.contains(&other));
        }
    }
}
