//! `troupe trace KIND/NAME`: the causal tree of the last write to an object.

use std::collections::BTreeMap;

use master::front::debug::ProcessRecords;
use protocol::resources;

use super::client::{Cluster, ToolError};
use crate::trace::{Origin, Tree, render};

/// What to show.
#[derive(Clone, Debug, clap::Args)]
pub struct TraceArgs {
    /// The object: `deployment/web`, `deploy/web`, `pods/web-0`, `node/n1`.
    pub object: String,
    /// Its namespace.
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// How many steps to show.
    #[arg(long, default_value_t = 400)]
    pub limit: usize,
    /// Shows every step, also those that led to nothing (watchers that had nothing to do).
    #[arg(long)]
    pub all: bool,
    /// Of which write: 0 is the last one, 1 the one before.
    #[arg(long, default_value_t = 0)]
    pub back: usize,
}

/// The traces' name of an object: kubectl's names and short names are understood.
pub fn key(object: &str, namespace: &str) -> Result<String, ToolError> {
    let refuse =
        || ToolError::Refused(format!("\"{object}\" is not of the form KIND/NAME, such as deployment/web"));
    let (kind, name) = object.split_once('/').ok_or_else(refuse)?;
    let kind = kind.split('.').next().unwrap_or(kind).to_ascii_lowercase();
    let found = resources::all()
        .iter()
        .find(|r| r.plural == kind || r.singular == kind || r.short_names.contains(&kind.as_str()))
        .ok_or_else(|| ToolError::Refused(format!("the server doesn't have a resource type \"{kind}\"")))?;
    Ok(if found.namespaced {
        format!("{}/{namespace}/{name}", found.plural)
    } else {
        format!("{}/{name}", found.plural)
    })
}

/// The traces of writes that came in by HTTP for an object, the latest first.
fn roots(records: &[ProcessRecords]) -> Vec<(u64, u128)> {
    let mut latest: BTreeMap<u128, u64> = BTreeMap::new();
    for record in records.iter().flat_map(|p| &p.records).filter(|r| &*r.to == "master/front") {
        let at = latest.entry(record.context.trace).or_default();
        *at = (*at).max(record.enqueued_us);
    }
    let mut roots: Vec<_> = latest.into_iter().map(|(trace, at)| (at, trace)).collect();
    roots.sort_unstable_by(|a, b| b.cmp(a));
    roots
}

/// Draws the tree.
pub async fn run(cluster: &Cluster, args: &TraceArgs) -> Result<String, ToolError> {
    let key = key(&args.object, &args.namespace)?;
    let about: Vec<ProcessRecords> = cluster.get("/debug/troupe/records", &[("key", key.clone())]).await?;
    let roots = roots(&about);
    let (_, trace) = roots.get(args.back).ok_or_else(|| {
        ToolError::Refused(format!(
            "no write to {key} is remembered (each thread keeps its last {} messages); write to it, then ask again",
            actors::trace::RING_RECORDS_MAX
        ))
    })?;
    let all: Vec<ProcessRecords> =
        cluster.get("/debug/troupe/records", &[("trace", format!("{trace:x}"))]).await?;
    let origins = all.into_iter().flat_map(|process| {
        let name = process.process;
        process.records.into_iter().map(move |record| Origin { process: place(&name, &record.to), record })
    });
    let mut tree = Tree::new(origins);
    if !args.all {
        tree.prune(is_dull);
    }
    Ok(format!("trace {trace:032x}\n{}", render(&tree, args.limit)))
}

/// Steps that are worth showing only for what they led to: wake-ups, reads, looks that found nothing to do.
fn is_dull(record: &actors::trace::Record) -> bool {
    let wakes = ["Changed", "PodChanged", "Reconcile", "Try", "Fold", "ADDED", "MODIFIED", "DELETED"];
    let reads = ["CurrentRevision", "Call"];
    let kind = &*record.kind;
    record.outcome == actors::trace::Outcome::Ok
        && (wakes.contains(&kind)
            || reads.contains(&kind)
            || kind.starts_with("get")
            || kind.starts_with("list"))
}

/// In one process the actors' paths tell what is the node's.
fn place(process: &str, to: &str) -> String {
    if to.starts_with("node/") && !process.starts_with("node/") {
        "node".to_owned()
    } else {
        process.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_as_kubectl_names_them() {
        for (object, expected) in [
            ("deployment/web", Some("deployments/a/web")),
            ("deploy/web", Some("deployments/a/web")),
            ("deployments.apps/web", Some("deployments/a/web")),
            ("po/web-0", Some("pods/a/web-0")),
            ("node/n1", Some("nodes/n1")),
            ("nonsense/x", None),
            ("web", None),
        ] {
            assert_eq!(key(object, "a").ok().as_deref(), expected, "{object}");
        }
    }
}
