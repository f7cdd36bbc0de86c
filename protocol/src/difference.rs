//! What changed between two texts, line by line, as a unified diff.
//!
//! Lines that both have are found as upstream's server finds them, since its messages quote the outcome: the longest
//! run that both share stays, and then the longest ones before and behind it. In long texts, lines that are there very
//! often begin no run.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

/// Lines around a change that are told too.
const CONTEXT: usize = 3;
/// From how many lines on those that are there often begin no run.
const LONG: usize = 200;
/// Beyond this, texts are compared in a way that takes less time.
const LINES_MAX: usize = 1_000;

/// A run of lines that both texts have: where it begins in either, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    old: usize,
    new: usize,
    len: usize,
}

/// Lines of the old text in whose place lines of the new one stand; alike where both are the same.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    alike: bool,
    old: Range<usize>,
    new: Range<usize>,
}

/// The changes from one text to another; empty where there are none.
pub fn unified(old: &str, new: &str) -> String {
    let a: Vec<&str> = old.split_inclusive('\n').collect();
    let b: Vec<&str> = new.split_inclusive('\n').collect();
    if a.len().max(b.len()) > LINES_MAX {
        return similar::TextDiff::from_lines(old, new).unified_diff().context_radius(CONTEXT).to_string();
    }
    let mut out = String::new();
    for group in groups(steps(&a, &b)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let (from, to) = (first.old.start..last.old.end, first.new.start..last.new.end);
        // Writing to a String does not fail.
        let _ = writeln!(out, "@@ -{} +{} @@", span(&from), span(&to));
        for step in group {
            let (gone, came) = if step.alike { (' ', None) } else { ('-', Some('+')) };
            for line in &a[step.old.clone()] {
                out.push(gone);
                out.push_str(line);
            }
            if let Some(came) = came {
                for line in &b[step.new.clone()] {
                    out.push(came);
                    out.push_str(line);
                }
            }
        }
    }
    out
}

/// A range as a hunk's head says it.
fn span(range: &Range<usize>) -> String {
    match range.len() {
        0 => format!("{},0", range.start),
        1 => (range.start + 1).to_string(),
        len => format!("{},{len}", range.start + 1),
    }
}

/// Where in the new text each line stands that may begin a run.
fn places<'t>(new: &[&'t str]) -> HashMap<&'t str, Vec<usize>> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, line) in new.iter().enumerate() {
        places.entry(line).or_default().push(at);
    }
    if new.len() >= LONG {
        let often = new.len() / 100 + 1;
        places.retain(|_, at| at.len() <= often);
    }
    places
}

/// The longest run of lines that both ranges share: of several the first in the old text, then in the new one.
fn longest(
    (a, b): (&[&str], &[&str]),
    places: &HashMap<&str, Vec<usize>>,
    old: &Range<usize>,
    new: &Range<usize>,
) -> Run {
    let mut best = Run { old: old.start, new: new.start, len: 0 };
    let mut ending: HashMap<usize, usize> = HashMap::new();
    for i in old.clone() {
        let mut next = HashMap::new();
        for &j in places.get(a[i]).into_iter().flatten().filter(|j| new.contains(*j)) {
            let len = j.checked_sub(1).and_then(|before| ending.get(&before)).copied().unwrap_or(0) + 1;
            next.insert(j, len);
            if len > best.len {
                best = Run { old: i + 1 - len, new: j + 1 - len, len };
            }
        }
        ending = next;
    }
    // Lines that begin no run may still be next to one.
    while best.old > old.start && best.new > new.start && a[best.old - 1] == b[best.new - 1] {
        best = Run { old: best.old - 1, new: best.new - 1, len: best.len + 1 };
    }
    while best.old + best.len < old.end
        && best.new + best.len < new.end
        && a[best.old + best.len] == b[best.new + best.len]
    {
        best.len += 1;
    }
    best
}

/// What is to be done to get from one text to the other, in order.
fn steps(a: &[&str], b: &[&str]) -> Vec<Step> {
    let places = places(b);
    let mut open = vec![(0..a.len(), 0..b.len())];
    let mut runs = Vec::new();
    while let Some((old, new)) = open.pop() {
        let run = longest((a, b), &places, &old, &new);
        if run.len == 0 {
            continue;
        }
        if old.start < run.old && new.start < run.new {
            open.push((old.start..run.old, new.start..run.new));
        }
        if run.old + run.len < old.end && run.new + run.len < new.end {
            open.push((run.old + run.len..old.end, run.new + run.len..new.end));
        }
        runs.push(run);
    }
    runs.sort_unstable_by_key(|run| run.old);
    runs.push(Run { old: a.len(), new: b.len(), len: 0 });
    let mut steps: Vec<Step> = Vec::new();
    let (mut i, mut j) = (0, 0);
    for run in runs {
        if i < run.old || j < run.new {
            steps.push(Step { alike: false, old: i..run.old, new: j..run.new });
        }
        (i, j) = (run.old + run.len, run.new + run.len);
        match steps.last_mut() {
            _ if run.len == 0 => {}
            // Runs that touch are one.
            Some(last) if last.alike => (last.old.end, last.new.end) = (i, j),
            _ => steps.push(Step { alike: true, old: run.old..i, new: run.new..j }),
        }
    }
    steps
}

/// Steps with what is alike around them, in groups that lie apart.
fn groups(mut steps: Vec<Step>) -> Vec<Vec<Step>> {
    if steps.iter().all(|step| step.alike) {
        return Vec::new();
    }
    let head = |step: &Step| step.old.len().saturating_sub(CONTEXT);
    if let Some(first) = steps.first_mut().filter(|step| step.alike) {
        let left_out = head(first);
        (first.old.start, first.new.start) = (first.old.start + left_out, first.new.start + left_out);
    }
    if let Some(last) = steps.last_mut().filter(|step| step.alike) {
        let left_out = head(last);
        (last.old.end, last.new.end) = (last.old.end - left_out, last.new.end - left_out);
    }
    let (mut groups, mut group) = (Vec::new(), Vec::new());
    for mut step in steps {
        if step.alike && step.old.len() > 2 * CONTEXT {
            let (old, new) = (step.old.start, step.new.start);
            group.push(Step { alike: true, old: old..old + CONTEXT, new: new..new + CONTEXT });
            groups.push(std::mem::take(&mut group));
            (step.old.start, step.new.start) = (step.old.end - CONTEXT, step.new.end - CONTEXT);
        }
        group.push(step);
    }
    if group.iter().any(|step| !step.alike) {
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> String {
        text.split(' ').filter(|word| !word.is_empty()).map(|word| format!("{word}\n")).collect()
    }

    #[test]
    fn the_longest_run_stays_and_then_the_first_of_equals() {
        for (old, new, wanted) in [
            ("a b c", "a b c", ""),
            ("a b c", "a x c", "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n"),
            ("", "a", "@@ -0,0 +1 @@\n+a\n"),
            ("a", "", "@@ -1 +0,0 @@\n-a\n"),
            // Both braces and g are one line long: the brace comes first in the old text.
            (
                "h{ p } g n r s t",
                "h g n{ q } r s t",
                "@@ -1,8 +1,8 @@\n-h{\n-p\n+h\n+g\n+n{\n+q\n }\n-g\n-n\n r\n s\n t\n",
            ),
            (
                "1 2 3 4 5 6 7 8 9 10 11",
                "x 2 3 4 5 6 7 8 9 10 y",
                "@@ -1,4 +1,4 @@\n-1\n+x\n 2\n 3\n 4\n@@ -8,4 +8,4 @@\n 8\n 9\n 10\n-11\n+y\n",
            ),
        ] {
            assert_eq!(unified(&lines(old), &lines(new)), wanted, "{old} {new}");
        }
    }

    #[test]
    fn what_is_often_there_begins_no_run_in_long_texts() {
        let often = "o ".repeat(150);
        let old = lines(&format!("{often}a"));
        let new = lines(&format!("b {often}{often}"));
        assert_eq!(unified(&old, &new).matches("\n-o").count(), 150);
        // Next to one that is rare it stays.
        let (old, new) = (lines(&format!("o r {often}")), lines(&format!("x r {often}{often}")));
        assert!(unified(&old, &new).starts_with("@@ -1,4 +1,4 @@\n-o\n+x\n r\n o\n o\n@@"));
    }

    #[test]
    fn texts_without_an_end_are_compared_too() {
        let old: String = (0..5_000).map(|i| format!("{i}\n")).collect();
        assert_eq!(unified(&old, &format!("x\n{old}")).lines().nth(1), Some("+x"));
    }
}
