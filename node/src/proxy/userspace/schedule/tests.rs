use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Servers with this many open and half-closed connections; a server that is not usable has `None`.
fn check(scheduler: Scheduler, loads: &[Option<(usize, usize)>], turn: usize, expected: Option<usize>) {
    let servers = servers(&loads.iter().map(|l| l.unwrap_or((0, 0))).collect::<Vec<_>>());
    let aim = Aim { client: [1, 2, 3, 4].into(), destination: [10, 96, 0, 1].into() };
    let usable = |s: &Server| servers.iter().position(|o| o == s).is_some_and(|i| loads[i].is_some());
    assert_eq!(
        scheduler.choose(&servers, usable, turn, aim),
        expected,
        "{scheduler:?} of {loads:?} at {turn}"
    );
}

fn servers(loads: &[(usize, usize)]) -> Vec<Server> {
    let server = |(i, (open, half_closed)): (usize, &(usize, usize))| Server {
        backend: Backend { ip: [10, 0, 0, i as u8].into(), port: 80 },
        open: *open,
        half_closed: *half_closed,
    };
    loads.iter().enumerate().map(server).collect()
}

const ALL: [Scheduler; 6] = [
    Scheduler::RoundRobin,
    Scheduler::LeastConnection,
    Scheduler::SourceHash,
    Scheduler::DestinationHash,
    Scheduler::ShortestExpectedDelay,
    Scheduler::NeverQueue,
];

#[test]
fn nobody_and_the_only_one() {
    for scheduler in ALL {
        check(scheduler, &[], 0, None);
        check(scheduler, &[None, None], 1, None);
        check(scheduler, &[None, Some((9, 9)), None], 7, Some(1));
    }
}

#[test]
fn the_classics() {
    let some = |loads: &[(usize, usize)]| loads.iter().map(|l| Some(*l)).collect::<Vec<_>>();
    use Scheduler::*;
    // Round robin looks at the turn alone.
    check(RoundRobin, &some(&[(9, 0), (0, 0), (0, 0)]), 0, Some(0));
    check(RoundRobin, &some(&[(9, 0), (0, 0), (0, 0)]), 4, Some(1));
    check(RoundRobin, &[Some((0, 0)), None, Some((0, 0))], 1, Some(2));
    // Open connections count, half-closed ones decide between equals, the turn between what is still equal.
    check(LeastConnection, &some(&[(2, 0), (1, 9), (1, 3)]), 0, Some(2));
    check(LeastConnection, &some(&[(1, 0), (0, 255), (1, 0)]), 0, Some(1));
    check(LeastConnection, &some(&[(1, 0), (1, 0), (1, 0)]), 2, Some(2));
    // Half-closed ones do not delay anybody.
    check(ShortestExpectedDelay, &some(&[(2, 0), (1, 9), (1, 3)]), 1, Some(1));
    check(ShortestExpectedDelay, &some(&[(2, 0), (1, 9), (1, 3)]), 2, Some(2));
    check(NeverQueue, &some(&[(5, 0), (0, 0), (3, 0), (0, 0)]), 2, Some(3));
    check(NeverQueue, &some(&[(5, 0), (4, 0), (3, 0), (6, 0)]), 0, Some(2));
}

fn tally(scheduler: Scheduler, count: usize, aims: impl Iterator<Item = Aim>) -> BTreeMap<usize, usize> {
    let servers = servers(&vec![(0, 0); count]);
    let mut tally = BTreeMap::new();
    for aim in aims {
        *tally.entry(scheduler.choose(&servers, |_| true, 0, aim).unwrap()).or_default() += 1;
    }
    tally
}

#[test]
fn hashes_spread_their_address_and_ignore_the_other() {
    let aim = |client: [u8; 4], destination: [u8; 4]| Aim {
        client: client.into(),
        destination: destination.into(),
    };
    let clients = || (0..=255).map(|n| aim([192, 0, 2, n], [10, 96, 0, 1]));
    let addresses = || (0..=255).map(|n| aim([192, 0, 2, 1], [10, 96, 0, n]));
    let spread = tally(Scheduler::SourceHash, 4, clients());
    assert!(spread.len() == 4 && spread.values().all(|n| *n > 30), "{spread:?}");
    assert_eq!(tally(Scheduler::SourceHash, 4, addresses()).len(), 1);
    let spread = tally(Scheduler::DestinationHash, 4, addresses());
    assert!(spread.len() == 4 && spread.values().all(|n| *n > 30), "{spread:?}");
    assert_eq!(tally(Scheduler::DestinationHash, 4, clients()).len(), 1);
}

proptest! {
    #[test]
    fn the_chosen_one_is_usable_and_nobody_is_better(
        loads in proptest::collection::vec((0usize..5, 0usize..5), 1..9),
        barred in any::<u16>(), turn in 0usize..20, client in any::<[u8; 4]>(),
    ) {
        let servers = servers(&loads);
        let usable = |s: &Server| {
            let i = servers.iter().position(|o| o.backend == s.backend).unwrap();
            barred & (1 << i) == 0
        };
        let aim = Aim { client: client.into(), destination: [10, 96, 0, 1].into() };
        for scheduler in ALL {
            let chosen = scheduler.choose(&servers, usable, turn, aim);
            prop_assert_eq!(chosen.is_some(), servers.iter().any(usable));
            let Some(chosen) = chosen else { continue };
            prop_assert!(usable(&servers[chosen]));
            for other in servers.iter().filter(|s| usable(s)) {
                let one = &servers[chosen];
                match scheduler {
                    Scheduler::LeastConnection => prop_assert!((one.open, one.half_closed) <= (other.open, other.half_closed)),
                    Scheduler::ShortestExpectedDelay | Scheduler::NeverQueue => prop_assert!(one.open <= other.open),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn an_endpoint_that_goes_moves_only_its_own_clients(client in any::<[u8; 4]>(), gone in 0usize..6) {
        let servers = servers(&[(0, 0); 6]);
        let aim = Aim { client: client.into(), destination: [10, 96, 0, 1].into() };
        let before = Scheduler::SourceHash.choose(&servers, |_| true, 0, aim).unwrap();
        let after = Scheduler::SourceHash.choose(&servers, |s| s.backend != servers[gone].backend, 3, aim).unwrap();
        prop_assert!(before == after || before == gone);
    }

    #[test]
    fn turns_are_fair(count in 1usize..9, rounds in 1usize..5) {
        let servers = servers(&vec![(0, 0); count]);
        let aim = Aim { client: [1, 2, 3, 4].into(), destination: [10, 96, 0, 1].into() };
        let mut turn = 0;
        let mut tally = vec![0; count];
        for _ in 0..count * rounds {
            let chosen = Scheduler::RoundRobin.choose(&servers, |_| true, turn, aim).unwrap();
            tally[chosen] += 1;
            turn = chosen + 1;
        }
        prop_assert!(tally.iter().all(|n| *n == rounds));
    }
}
