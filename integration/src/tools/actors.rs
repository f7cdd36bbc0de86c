//! `troupe actors`: the live actors of every process.

use std::fmt::Write as _;

use protocol::link::ProcessActors;

use super::client::{Cluster, ToolError};
use crate::stages::text;

/// What to show.
#[derive(Clone, Debug, clap::Args)]
pub struct ActorsArgs {
    /// Only paths that start so.
    #[arg(default_value = "")]
    pub prefix: String,
}

/// Draws the tree.
pub async fn run(cluster: &Cluster, args: &ActorsArgs) -> Result<String, ToolError> {
    let processes: Vec<ProcessActors> = cluster.get("/debug/troupe/actors", &[]).await?;
    Ok(draw(&processes, &args.prefix))
}

fn draw(processes: &[ProcessActors], prefix: &str) -> String {
    let mut out = String::new();
    for process in processes {
        let _ = writeln!(out, "{}", process.process);
        let _ = writeln!(
            out,
            "  {:<64} {:>9} {:>8} {:>10} {:>8}",
            "ACTOR", "MAILBOX", "OLDEST", "HANDLED", "RESTARTS"
        );
        let mut above: Vec<&str> = Vec::new();
        for actor in process.actors.iter().filter(|a| a.path.starts_with(prefix)) {
            // Parts that the line above has are shown as depth.
            let parts: Vec<&str> = split(&actor.path);
            let common = parts.iter().zip(&above).take_while(|(a, b)| a == b).count().min(parts.len() - 1);
            for (depth, part) in parts.iter().enumerate().take(parts.len() - 1).skip(common) {
                let _ = writeln!(out, "  {}{part}/", "  ".repeat(depth));
            }
            let name = format!("{}{}", "  ".repeat(parts.len() - 1), parts[parts.len() - 1]);
            let _ = writeln!(
                out,
                "  {name:<64} {:>4}/{:<4} {:>8} {:>10} {:>8}",
                actor.depth,
                actor.capacity,
                text(actor.oldest_wait),
                actor.handled,
                actor.restarts
            );
            if !actor.awaited_by.is_empty() {
                let _ =
                    writeln!(out, "  {}awaited by {}", "  ".repeat(parts.len()), actor.awaited_by.join(", "));
            }
            above = parts;
        }
    }
    out
}

/// A path's parts; an instance in brackets may have slashes of its own.
fn split(path: &str) -> Vec<&str> {
    let (class, instance) = path.split_at(path.find('[').unwrap_or(path.len()));
    let mut parts: Vec<&str> = class.split('/').collect();
    if !instance.is_empty()
        && let Some(last) = parts.last_mut()
    {
        let from = path.len() - instance.len() - last.len();
        *last = &path[from..];
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actors::ActorInfo;

    use super::*;

    #[test]
    fn the_tree_is_drawn_by_path() {
        let actor = |path: &str| ActorInfo {
            path: path.into(),
            class: path.into(),
            depth: 1,
            capacity: 256,
            oldest_wait: Duration::from_millis(3),
            handled: 7,
            restarts: 0,
            awaited_by: if path == "node/proxy" { vec!["node/kubelet".into()] } else { Vec::new() },
        };
        let actors = vec![actor("node/kubelet"), actor("node/kubelet/pod[default/web]"), actor("node/proxy")];
        let text = draw(&[ProcessActors { process: "master".into(), actors }], "");
        let names: Vec<&str> =
            text.lines().skip(2).map(|l| l.split("  1/").next().unwrap_or(l).trim_end()).collect();
        assert_eq!(names.len(), 5, "{text}");
        assert_eq!(names[4].trim(), "awaited by node/kubelet");
        assert!(names[0].ends_with("  node/") && names[2].trim() == "pod[default/web]", "{text}");
    }
}
