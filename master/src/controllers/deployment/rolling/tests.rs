use proptest::prelude::*;

use super::*;

#[test]
fn percentages_round_in_the_safe_direction() {
    let percent = |t: &str| IntOrString::String(t.to_owned());
    for (value, total, up, expected) in [
        (percent("25%"), 10, true, Some(3)),
        (percent("25%"), 10, false, Some(2)),
        (percent("0%"), 10, true, Some(0)),
        (percent("100%"), 3, false, Some(3)),
        (percent("25"), 10, false, None),
        (IntOrString::Int(4), 10, false, Some(4)),
    ] {
        assert_eq!(resolve(&value, total, up), expected, "{value:?} of {total}");
    }
}

#[test]
fn the_new_set_grows_into_the_surge() {
    let limits = Limits { desired: 10, max_surge: 2, max_unavailable: 1 };
    for (new, total, expected) in [(0, 0, 10), (0, 10, 2), (2, 12, 2), (5, 11, 6), (9, 9, 10), (12, 12, 10)] {
        assert_eq!(new_size(limits, true, new, total), expected, "new {new} of {total}");
    }
}

#[test]
fn broken_old_pods_go_first() {
    let limits = Limits { desired: 10, max_surge: 0, max_unavailable: 2 };
    let size = |name: &str, replicas, available| Size { name: name.to_owned(), replicas, available };
    // 10 old pods, 3 of them broken: availability is below the limit already, only broken ones may go.
    let got = shrink_old(limits, &size("new", 0, 0), &[size("a", 5, 5), size("b", 5, 2)]);
    assert_eq!(got, [("b".to_owned(), 3)]);
    let got = shrink_old(limits, &size("new", 2, 2), &[size("a", 8, 8)]);
    assert_eq!(got, [("a".to_owned(), 6)]);
    let got = shrink_old(limits, &size("new", 2, 0), &[size("a", 8, 8)]);
    assert_eq!(got, []);
}

proptest! {
    /// However pods become ready or break, a rollout never asks for more than the surge allows, never gives
    /// up an available pod below the minimum, and ends.
    #[test]
    fn rollouts_keep_their_limits_and_end(
        desired in 1i32..30, surge in 0i32..10, unavailable in 0i32..10,
        old in proptest::collection::vec((0i32..20, 0i32..20), 1..4),
        readiness in proptest::collection::vec(0u8..100, 200),
    ) {
        let max_unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable.min(desired) };
        let limits = Limits { desired, max_surge: surge, max_unavailable };
        // Old sets start within the limit: a Deployment scaled down meanwhile is the scaling's business.
        let mut budget = limits.max_total();
        let mut sets: Vec<Size> = Vec::new();
        for (i, (replicas, available)) in old.iter().enumerate() {
            let replicas = (*replicas).min(budget);
            budget -= replicas;
            sets.push(Size { name: format!("o{i}"), replicas, available: (*available).min(replicas) });
        }
        let mut new = Size { name: "new".to_owned(), replicas: 0, available: 0 };
        let mut done = false;
        for (round, dice) in readiness.iter().chain(std::iter::repeat_n(&99, 200)).enumerate() {
            let total = new.replicas + sets.iter().map(|s| s.replicas).sum::<i32>();
            let size = new_size(limits, true, new.replicas, total);
            if size != new.replicas {
                new.replicas = size;
            } else {
                let available_before: i32 = new.available + sets.iter().map(|s| s.available).sum::<i32>();
                for (name, size) in shrink_old(limits, &new, &sets) {
                    let set = sets.iter_mut().find(|s| s.name == name).unwrap();
                    set.replicas = size;
                    // The ReplicaSet gives up its broken pods first.
                    set.available = set.available.min(size);
                }
                let available: i32 = new.available + sets.iter().map(|s| s.available).sum::<i32>();
                prop_assert!(available >= limits.min_available().min(available_before),
                    "round {round}: {available} available of at least {}", limits.min_available());
            }
            let total = new.replicas + sets.iter().map(|s| s.replicas).sum::<i32>();
            prop_assert!(total <= limits.max_total(), "round {round}: {total} pods");
            // The world moves: some new pods become available, an old one may break.
            if *dice >= 30 {
                new.available = (new.available + 1 + i32::from(*dice) / 30).min(new.replicas);
            }
            if *dice % 7 == 0
                && let Some(set) = sets.iter_mut().find(|s| s.available > 0)
            {
                set.available -= 1;
            }
            done = new.replicas == desired && new.available == desired && sets.iter().all(|s| s.replicas == 0);
            if done { break }
        }
        prop_assert!(done, "stuck at {new:?} {sets:?}");
    }
}
