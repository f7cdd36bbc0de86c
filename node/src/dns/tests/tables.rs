//! Tables: whatever happens in whatever order, they know what a table made from the end state knows.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::dns::table::Change;

/// Two services, either sort, with slices that may change their service.
fn change(kind: u8, name: u8, gone: bool, variant: u8) -> Change {
    let own = format!("o{}", name % 3);
    let of = format!("o{}", variant % 3);
    let address = format!("10.0.0.{}", variant % 4);
    match kind % 3 {
        0 if variant.is_multiple_of(2) => service(&own, json!({"clusterIP": address})).change(gone),
        0 => {
            let not_ready = variant % 3 == 1;
            service(&own, json!({"clusterIP": "None", "publishNotReadyAddresses": not_ready})).change(gone)
        }
        1 => {
            let endpoints = json!([
                {"addresses": [address], "hostname": format!("h{}", variant % 2), "conditions": {"ready": !variant.is_multiple_of(5)}},
                {"addresses": [format!("10.0.1.{}", name % 2)]},
            ]);
            slice(&own, &of, json!([{"name": "p", "port": 80}]), endpoints).change(gone)
        }
        _ => object::<Pod>(json!({"metadata": meta(&own), "status": {"podIP": address}})).change(gone),
    }
}

/// All that can be asked of a table.
fn all(table: &Table) -> Vec<String> {
    let mut said = Vec::new();
    for n in 0..3 {
        let name = format!("o{n}");
        said.push(format!("{:?}", table.service("ns", &name)));
        let mut endpoints: Vec<String> =
            table.endpoints("ns", &name).iter().map(|(_, e)| format!("{e:?}")).collect();
        endpoints.sort();
        said.extend(endpoints);
    }
    for (a, b) in (0..2).flat_map(|a| (0..4).map(move |b| (a, b))) {
        let address = IpAddr::from([10, 0, a, b]);
        said.push(format!("{:?} {}", table.names_of(address), table.has_pod("ns", address)));
    }
    said.push(table.has_namespace("ns").to_string());
    said
}

proptest! {
    #[test]
    fn changes_lead_where_lists_lead(steps in prop::collection::vec((0u8..3, 0u8..3, any::<bool>(), 0u8..30), 0..60)) {
        let mut table = Table::default();
        let mut last: BTreeMap<(u8, u8), Change> = BTreeMap::new();
        for (kind, name, gone, variant) in steps {
            let change = change(kind, name, gone, variant);
            table.apply(change.clone());
            if gone {
                last.remove(&(kind, name));
            } else {
                last.insert((kind, name), change);
            }
        }
        let of = |kind: u8| -> Vec<Change> { last.iter().filter(|((k, _), _)| *k == kind).map(|(_, c)| c.clone()).collect() };
        let mut fresh = Table::default();
        for (kind, part) in [(0, Kind::Service), (1, Kind::Slice), (2, Kind::Pod)] {
            fresh.replace(part, of(kind));
        }
        prop_assert_eq!(all(&table), all(&fresh));
        // A relist of the old table leads there too, and to nothing when there is nothing.
        for (kind, part) in [(2, Kind::Pod), (0, Kind::Service), (1, Kind::Slice)] {
            table.replace(part, of(kind));
        }
        prop_assert_eq!(all(&table), all(&fresh));
        for part in [Kind::Pod, Kind::Service, Kind::Slice] {
            table.replace(part, Vec::new());
        }
        prop_assert_eq!(all(&table), all(&Table::default()));
    }
}
