//! The indexes that a job says have succeeded or failed: numbers and runs of them, `0,2-4`.

use serde_json::Value;

use super::changed;
use crate::api::invalid::{Errors, Path, go_quote};
use crate::api::object::text;

/// Checks the indexes of a job, where they are others than before.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let (spec, status, path) = (&new["spec"], &new["status"], Path::new("status"));
    let completions = spec["completions"].as_i64();
    let completed = text(status, &["completedIndexes"]);
    let failed = status["failedIndexes"].as_str();
    let (completed_at, failed_at) = (path.child("completedIndexes"), path.child("failedIndexes"));
    let completed_moved = completed != text(old, &["status", "completedIndexes"]);
    let failed_moved = changed(new, old, "failedIndexes");
    let limited = !spec["backoffLimitPerIndex"].is_null();
    if let (true, Some(completions)) = (completed_moved, completions)
        && let Err(why) = form(completed, completions)
    {
        errors.invalid(&completed_at, completed, format!("error parsing completedIndexes: {why}"));
    }
    if let (true, Some(completions), Some(failed)) = (failed_moved && limited, completions, failed)
        && let Err(why) = form(failed, completions)
    {
        errors.invalid(&failed_at, failed, format!("error parsing failedIndexes: {why}"));
    }
    if completed_moved && !completed.is_empty() && text(spec, &["completionMode"]) != "Indexed" {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.invalid(&completed_at, completed, why);
    }
    let Some(failed) = failed else { return };
    if failed_moved && !limited {
        let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.invalid(&failed_at, failed, why);
    }
    if let (true, Some(completions)) = (failed_moved || completed_moved, completions)
        && let Some(index) = shared(completed, failed, completions)
    {
        let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.invalid(&failed_at, failed, why);
    }
}

/// A number, or the first and the last of a run.
fn run(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let limits: Vec<&str> = part.split('-').collect();
    if limits.len() > 2 {
        return Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            go_quote(part)
        ));
    }
    let number = |text: &str| match text.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {}", go_quote(text))),
        Ok(index) if index >= completions => Err(format!("too large index: {}", go_quote(text))),
        Ok(index) => Ok(index),
    };
    let first = number(limits[0])?;
    let last = limits.get(1).map_or(Ok(first), |last| number(last))?;
    if limits.len() > 1 && first >= last {
        return Err(format!("non-increasing order, previous: {first}, current: {last}"));
    }
    Ok((first, last))
}

fn form(indexes: &str, completions: i64) -> Result<(), String> {
    let mut previous = None;
    for part in indexes.split(',').filter(|_| !indexes.is_empty()) {
        let (first, last) = run(part, completions)?;
        if let Some(previous) = previous.filter(|previous| *previous >= first) {
            return Err(format!("non-increasing order, previous: {previous}, current: {first}"));
        }
        previous = Some(last);
    }
    Ok(())
}

/// The first index that is in both texts. What cannot be read is passed over: it is told elsewhere.
fn shared(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let runs = |indexes: &str| -> Vec<(i64, i64)> {
        indexes.split(',').filter_map(|part| run(part, completions).ok()).collect()
    };
    let (mut completed, mut failed) =
        (runs(completed).into_iter().peekable(), runs(failed).into_iter().peekable());
    while let (Some(a), Some(b)) = (completed.peek(), failed.peek()) {
        if a.0 <= b.1 && b.0 <= a.1 {
            return Some(a.0.max(b.0));
        }
        if a.0 <= b.0 {
            completed.next();
        } else {
            failed.next();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_grow_and_are_below_the_completions() {
        for (indexes, wanted) in [
            ("", Ok(())),
            ("0,2-4", Ok(())),
            ("2,1", Err("non-increasing order, previous: 2, current: 1")),
            ("3-1", Err("non-increasing order, previous: 3, current: 1")),
            ("5", Err("too large index: \"5\"")),
            ("a", Err("cannot convert string to integer for index: \"a\"")),
        ] {
            assert_eq!(form(indexes, 5), wanted.map_err(str::to_owned), "{indexes}");
        }
    }

    #[test]
    fn an_index_ends_in_one_way() {
        for (completed, failed, wanted) in [
            ("0-2", "3,4", None),
            ("0-2,4", "3-4", Some(4)),
            ("0-2", "1", Some(1)),
            ("", "1", None),
            ("x,1", "1", Some(1)),
        ] {
            assert_eq!(shared(completed, failed, 5), wanted, "{completed} {failed}");
        }
    }
}
