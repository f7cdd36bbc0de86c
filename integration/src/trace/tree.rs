//! Building and drawing the tree. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use actors::trace::{Outcome, Record};

/// A record and the process it was recorded in.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// `master`, or `node/NAME`.
    pub process: String,
    /// The record.
    pub record: Record,
}

/// A causal tree of one trace.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<u64, Origin>,
    children: HashMap<u64, Vec<u64>>,
    roots: Vec<u64>,
}

impl Tree {
    /// Arranges the records of one trace. A record whose cause has been forgotten becomes a root.
    pub fn new(records: impl IntoIterator<Item = Origin>) -> Self {
        let nodes: BTreeMap<u64, Origin> =
            records.into_iter().map(|o| (o.record.context.message, o)).collect();
        let mut children: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut roots = Vec::new();
        for (id, origin) in &nodes {
            let parent = origin.record.parent;
            if parent != *id && nodes.contains_key(&parent) {
                children.entry(parent).or_default().push(*id);
            } else {
                roots.push(*id);
            }
        }
        let mut tree = Tree { nodes, children, roots };
        let at = |nodes: &BTreeMap<u64, Origin>, id: &u64| (nodes[id].record.enqueued_us, *id);
        tree.roots.sort_by_key(|id| at(&tree.nodes, id));
        for below in tree.children.values_mut() {
            below.sort_by_key(|id| at(&tree.nodes, id));
        }
        tree
    }

    /// Leaves out what led to nothing worth seeing: branches in which every step satisfies `dull`.
    pub fn prune(&mut self, dull: impl Fn(&Record) -> bool) {
        let mut keep = HashSet::new();
        // Ids are visited by time, latest first, so that children come before their parents.
        let mut order: Vec<u64> = self.nodes.keys().copied().collect();
        order.sort_by_key(|id| std::cmp::Reverse((self.nodes[id].record.enqueued_us, *id)));
        for id in order {
            let kept_below = self.children.get(&id).is_some_and(|c| c.iter().any(|c| keep.contains(c)));
            if kept_below || !dull(&self.nodes[&id].record) {
                let mut up = Some(id);
                while let Some(id) = up.filter(|id| keep.insert(*id)) {
                    let parent = self.nodes[&id].record.parent;
                    up = (parent != id && self.nodes.contains_key(&parent)).then_some(parent);
                }
            }
        }
        self.nodes.retain(|id, _| keep.contains(id));
        self.roots.retain(|id| keep.contains(id));
        for below in self.children.values_mut() {
            below.retain(|id| keep.contains(id));
        }
    }

    /// How many steps it has.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// Microseconds as people read them.
fn span(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

/// Draws the tree, at most `lines_max` lines: offset from the root's start, step, object, waits.
pub fn render(tree: &Tree, lines_max: usize) -> String {
    let mut out = String::new();
    let Some(start) = tree.roots.first().map(|id| tree.nodes[id].record.enqueued_us) else { return out };
    // An explicit stack: a chain may be deeper than a thread's stack likes.
    let mut stack: Vec<(u64, String, bool, bool)> = Vec::new();
    for (n, root) in tree.roots.iter().enumerate().rev() {
        stack.push((*root, String::new(), n + 1 == tree.roots.len(), true));
    }
    let mut process = "";
    let mut lines = 0;
    while let Some((id, indent, last, is_root)) = stack.pop() {
        if lines == lines_max {
            let _ = writeln!(out, "… {} more steps (--limit shows more)", tree.len() - lines);
            break;
        }
        lines += 1;
        let origin = &tree.nodes[&id];
        let r = &origin.record;
        let branch = match (is_root, last) {
            (true, _) => "",
            (false, true) => "└─ ",
            (false, false) => "├─ ",
        };
        let offset = span(r.enqueued_us.saturating_sub(start));
        let place = if origin.process == process || origin.process.is_empty() {
            String::new()
        } else {
            format!("[{}] ", origin.process)
        };
        process = &origin.process;
        let key = r.key.as_deref().map(|k| format!(" {k}")).unwrap_or_default();
        let from =
            if r.from.is_empty() || r.from == r.to { String::new() } else { format!("  from {}", r.from) };
        let outcome = match r.outcome {
            Outcome::Ok => "",
            Outcome::Running => "  (running)",
            Outcome::Failed => "  FAILED",
            Outcome::Panicked => "  PANICKED",
        };
        let causes = match r.causes.len() {
            0 | 1 => String::new(),
            n => format!("  +{} causes", n - 1),
        };
        let _ = writeln!(
            out,
            "{offset:>9}  {indent}{branch}{place}{} {}{key}  wait {}, took {}{from}{causes}{outcome}",
            r.to,
            r.kind,
            span(r.wait_us),
            span(r.handling_us),
        );
        let below = tree.children.get(&id).map(Vec::as_slice).unwrap_or_default();
        let indent = if is_root { indent } else { format!("{indent}{}", if last { "   " } else { "│  " }) };
        for (n, child) in below.iter().enumerate().rev() {
            stack.push((*child, indent.clone(), n + 1 == below.len(), false));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use actors::TraceContext;

    use super::*;

    fn record(message: u64, parent: u64, at: u64, to: &str, kind: &str, process: &str) -> Origin {
        Origin {
            process: process.into(),
            record: Record {
                context: TraceContext { trace: 1, message },
                parent,
                causes: Vec::new(),
                from: "".into(),
                to: to.into(),
                kind: kind.into(),
                key: Some("pods/default/web".into()),
                enqueued_us: 1_000_000 + at,
                wait_us: 7,
                handling_us: 1500,
                outcome: Outcome::Ok,
            },
        }
    }

    #[test]
    fn a_tree_is_drawn_by_time_with_what_followed_below_its_cause() {
        let tree = Tree::new([
            record(4, 2, 30, "node/kubelet", "SyncPod", "node/n1"),
            record(1, 0, 0, "api", "create", "master"),
            record(3, 1, 20, "master/scheduler", "Changed", "master"),
            record(2, 1, 10, "master/cache", "Batch", "master"),
        ]);
        let text = render(&tree, 100);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "     0 µs  [master] api create pods/default/web  wait 7 µs, took 1.5 ms");
        assert!(lines[1].contains("├─ master/cache Batch"), "{text}");
        assert!(lines[2].contains("│  └─ [node/n1] node/kubelet SyncPod"), "{text}");
        assert!(lines[3].contains("└─ [master] master/scheduler Changed"), "{text}");
        assert!(render(&tree, 2).ends_with("… 2 more steps (--limit shows more)\n"));
    }

    #[test]
    fn pruning_keeps_the_way_to_what_matters() {
        let mut tree = Tree::new([
            record(1, 0, 0, "api", "create", "master"),
            record(2, 1, 10, "noise", "Changed", "master"),
            record(3, 1, 10, "path", "Changed", "master"),
            record(4, 3, 20, "api", "update", "master"),
        ]);
        tree.prune(|r| &*r.kind == "Changed");
        assert_eq!(tree.len(), 3);
        assert!(!render(&tree, 10).contains("noise"));
    }

    #[test]
    fn a_forgotten_cause_makes_a_root_and_a_loop_does_no_harm() {
        assert_eq!(Tree::new([record(9, 8, 0, "x", "y", "master")]).roots, [9]);
        let own = Tree::new([record(5, 5, 0, "x", "y", "master")]);
        assert_eq!(render(&own, 10).lines().count(), 1);
    }
}
