//! The order of API versions, most wanted first: general availability, beta, alpha, anything else.

use std::cmp::{Ordering, Reverse};

/// What a version says of itself: how stable (2, 1, 0), major and minor.
fn parse(version: &str) -> Option<(u8, u64, u64)> {
    let number = |text: &str| -> Option<u64> { if text.starts_with('0') { None } else { text.parse().ok() } };
    let rest = version.strip_prefix('v')?;
    for (word, stability) in [("beta", 1), ("alpha", 0)] {
        if let Some((major, minor)) = rest.split_once(word) {
            return Some((stability, number(major)?, number(minor)?));
        }
    }
    Some((2, number(rest)?, 0))
}

/// Compares two versions; the one that clients should prefer comes first.
pub fn compare(a: &str, b: &str) -> Ordering {
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => Reverse(a).cmp(&Reverse(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn stable_versions_come_first() {
        let mut all = vec![
            "foo1",
            "v1alpha1",
            "v12alpha1",
            "v10",
            "v2",
            "v1",
            "v3beta1",
            "v10beta3",
            "v11beta2",
            "foo10",
            "v0",
        ];
        all.sort_by(|a, b| super::compare(a, b));
        let wanted = [
            "v10",
            "v2",
            "v1",
            "v11beta2",
            "v10beta3",
            "v3beta1",
            "v12alpha1",
            "v1alpha1",
            "foo1",
            "foo10",
            "v0",
        ];
        assert_eq!(all, wanted);
    }
}
