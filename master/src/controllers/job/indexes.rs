//! Sets of completion indexes, in the text form of a Job's status: `0,2-4`. Pure.

use std::fmt::{self, Display};

/// A set of indexes, held as the runs that its text has. Few characters may name as many indexes as there are numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes {
    /// First and last of each run: ascending, with gaps between them.
    runs: Vec<(i32, i32)>,
}

impl Indexes {
    /// Reads a set; what makes no sense, or lies beyond `completions`, is left out.
    pub fn parse(text: &str, completions: i32) -> Self {
        let runs = text.split(',').filter_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to) = (from.parse::<i32>().ok()?.max(0), to.parse::<i32>().ok()?);
            Some((from, to.min(completions.saturating_sub(1))))
        });
        let mut set = Indexes::default();
        set.add(runs);
        set
    }

    /// Adds runs, each from its first index to its last; those that end before they begin are none.
    fn add(&mut self, runs: impl Iterator<Item = (i32, i32)>) {
        self.runs.extend(runs.filter(|(from, to)| from <= to));
        self.runs.sort_unstable();
        self.runs.dedup_by(|next, last| {
            let joined = next.0 <= last.1.saturating_add(1);
            if joined {
                last.1 = last.1.max(next.1);
            }
            joined
        });
    }

    /// Adds an index.
    pub fn insert(&mut self, index: i32) {
        self.extend([index]);
    }

    /// Whether an index is in it.
    pub fn contains(&self, index: i32) -> bool {
        let next = self.runs.partition_point(|(from, _)| *from <= index);
        next.checked_sub(1).and_then(|at| self.runs.get(at)).is_some_and(|(_, to)| index <= *to)
    }

    /// How many there are.
    pub fn count(&self) -> i32 {
        size(self.runs.iter().copied())
    }

    /// How many are in the other set too.
    pub fn common(&self, other: &Indexes) -> i32 {
        let mut rest = other.runs.as_slice();
        let mut both = Vec::new();
        for (from, to) in &self.runs {
            rest = &rest[rest.partition_point(|(_, end)| end < from)..];
            let meeting = rest.iter().take_while(|(begin, _)| begin <= to);
            both.extend(meeting.map(|(begin, end)| (*begin.max(from), *end.min(to))));
        }
        size(both.into_iter())
    }

    /// Both together.
    pub fn or(&self, other: &Indexes) -> Indexes {
        let mut set = self.clone();
        set.add(other.runs.iter().copied());
        set
    }

    /// The indexes below `completions` that are not in it, ascending.
    pub fn missing(&self, completions: i32) -> impl Iterator<Item = i32> + '_ {
        let begins = [0].into_iter().chain(self.runs.iter().map(|(_, to)| to.saturating_add(1)));
        let ends = self.runs.iter().map(|(from, _)| *from).chain([completions]);
        begins.zip(ends).flat_map(move |(from, to)| from..to.min(completions))
    }
}

fn size(runs: impl Iterator<Item = (i32, i32)>) -> i32 {
    let all: i64 = runs.map(|(from, to)| i64::from(to) - i64::from(from) + 1).sum();
    i32::try_from(all).unwrap_or(i32::MAX)
}

impl Extend<i32> for Indexes {
    fn extend<I: IntoIterator<Item = i32>>(&mut self, indexes: I) {
        self.add(indexes.into_iter().map(|index| (index, index)));
    }
}

impl FromIterator<i32> for Indexes {
    fn from_iter<I: IntoIterator<Item = i32>>(indexes: I) -> Self {
        let mut set = Indexes::default();
        set.extend(indexes);
        set
    }
}

/// Runs of two are written out, longer ones as ranges.
impl Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (from, to)) in self.runs.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            match to - from {
                0 => write!(f, "{comma}{from}")?,
                1 => write!(f, "{comma}{from},{to}")?,
                _ => write!(f, "{comma}{from}-{to}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sets_read_as_they_are_written() {
        for (text, set) in [("", vec![]), ("0,2-4,6,7", vec![0, 2, 3, 4, 6, 7]), ("1", vec![1])] {
            let set: Indexes = set.into_iter().collect();
            assert_eq!((Indexes::parse(text, 100), set.to_string()), (set, text.to_owned()));
        }
        for (text, completions, read) in
            [("1-9", 4, "1-3"), ("x,2", 4, "2"), ("3-1", 4, ""), ("2,0-1,1-2", 4, "0-2"), ("0-9", 0, "")]
        {
            assert_eq!(Indexes::parse(text, completions).to_string(), read, "{text}");
        }
    }

    #[test]
    fn as_many_as_a_number_holds_are_a_run_like_any_other() {
        let all = Indexes::parse(&format!("0-{}", i32::MAX), i32::MAX);
        assert_eq!((all.count(), all.common(&all), all.missing(i32::MAX).count()), (i32::MAX, i32::MAX, 0));
        let mut most = Indexes::parse(&format!("1-{}", i32::MAX - 2), i32::MAX);
        assert_eq!(most.missing(i32::MAX).collect::<Vec<_>>(), [0, i32::MAX - 1]);
        most.extend([0, i32::MAX - 1]);
        assert_eq!(most, all);
    }

    proptest! {
        #[test]
        fn a_set_is_a_set(a in prop::collection::btree_set(0..40, 0..30), b in prop::collection::btree_set(0..40, 0..30)) {
            let (one, other): (Indexes, Indexes) = (a.iter().copied().collect(), b.iter().copied().collect());
            prop_assert_eq!(one.count() as usize, a.len());
            prop_assert_eq!(one.common(&other) as usize, a.intersection(&b).count());
            prop_assert_eq!(one.or(&other), a.union(&b).copied().collect::<Indexes>());
            prop_assert_eq!(Indexes::parse(&one.to_string(), 40), one.clone());
            let gone: BTreeSet<i32> = one.missing(40).collect();
            for index in 0..40 {
                prop_assert_eq!((one.contains(index), gone.contains(&index)), (a.contains(&index), !a.contains(&index)));
            }
        }
    }
}
