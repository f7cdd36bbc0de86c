//! Sets of completion indexes, in the text form of a Job's status: `0,2-4`. Pure.

use std::collections::BTreeSet;

/// Reads a set; what makes no sense, or lies beyond `completions`, is left out.
pub fn parse(text: &str, completions: i32) -> BTreeSet<i32> {
    let mut out = BTreeSet::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<i32>(), to.parse::<i32>()) {
            out.extend(from.max(0)..=to.min(completions - 1));
        }
    }
    out
}

/// Writes a set: runs of two are written out, longer ones as ranges.
pub fn format(set: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for index in set {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let text = |(from, to): &(i32, i32)| match to - from {
        0 => from.to_string(),
        1 => format!("{from},{to}"),
        _ => format!("{from}-{to}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_read_as_they_are_written() {
        for (text, set) in [("", vec![]), ("0,2-4,6,7", vec![0, 2, 3, 4, 6, 7]), ("1", vec![1])] {
            let set: BTreeSet<i32> = set.into_iter().collect();
            assert_eq!((parse(text, 100), format(&set)), (set, text.to_owned()));
        }
        assert_eq!(parse("1-9", 4), BTreeSet::from([1, 2, 3]));
        assert_eq!(parse("x,2", 4), BTreeSet::from([2]));
    }
}
