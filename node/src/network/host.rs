//! The node's own part of the pods' network, and undoing it.

use std::process::Stdio;

use ipnet::IpNet;
use protocol::DualRange;
use tokio::process::Command;

use super::netlink::Netlink;
use crate::family::Family;
use crate::nft;
use crate::nft::commands::emptied;
use crate::proxy::iptables::names::COMMENT as SERVICES;

/// The nftables table of the pods' network on this bridge.
pub fn table(family: Family, bridge: &str) -> String {
    format!("{} {bridge}-pods", family.nft())
}

/// Marks our rules in iptables.
const COMMENT: &str = "troupe pods";

/// The masquerading of what leaves the cluster.
pub fn masquerade(pods: IpNet, cluster: IpNet, bridge: &str) -> String {
    let family = Family::of(pods.addr());
    let (table, ip) = (table(family, bridge), family.nft());
    let many = match family {
        Family::V4 => "224.0.0.0/4",
        Family::V6 => "ff00::/8",
    };
    let emptied = emptied(&table);
    format!(
        "{emptied}add chain {table} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}\n\
         add rule {table} postrouting {ip} saddr {pods} {ip} daddr != {cluster} {ip} daddr != {many} \
         oifname != \"{bridge}\" masquerade fully-random\n"
    )
}

/// The iptables rules that let pods' packets pass where Docker (or anyone) has made the default a drop: an
/// accept in a table of our own would not help, as any table's drop is final. Pods of other nodes too: what comes to a
/// Service here may go to one of them.
pub fn forward_rules(cluster: IpNet) -> Vec<Vec<String>> {
    ["-s", "-d"]
        .into_iter()
        .map(|side| {
            let cidr = cluster.to_string();
            ["FORWARD", side, &cidr, "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"]
                .map(str::to_owned)
                .into()
        })
        .collect()
}

/// The program that holds iptables' rules of a family.
fn iptables(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

/// Runs a program; its output, or why it failed.
pub async fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(|e| format!("{program} does not run: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

fn words(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

/// Opens the node for its pods: forwarding, firewall, masquerading.
pub async fn open(pods: &DualRange, cluster: &DualRange, bridge: &str) -> Result<(), String> {
    write_sysctl("net/ipv4/ip_forward", "1").await?;
    if pods.v6.is_some() {
        forward_ipv6().await?;
    }
    // Without it, an answer from a pod to another on the same bridge passes unseen by the service rules and
    // arrives with an address that nobody asked. The module may be built in, or come late.
    if tokio::fs::metadata("/proc/sys/net/bridge").await.is_err() {
        let _ = run("modprobe", &["br_netfilter"]).await;
    }
    if tokio::fs::metadata("/proc/sys/net/bridge").await.is_ok() {
        write_sysctl("net/bridge/bridge-nf-call-iptables", "1").await?;
        // Where pods have no IPv6, so that what they could say by it, which no policy is about, is seen and dropped.
        write_sysctl("net/bridge/bridge-nf-call-ip6tables", "1").await?;
    }
    // Where the cluster has one family and the node's range another, nobody is to be masqueraded as.
    for pods in pods.iter() {
        let family = Family::of(pods.addr());
        let Some(cluster) = cluster.iter().find(|range| family.has(range)) else { continue };
        nft::apply(&masquerade(pods, cluster, bridge)).await.map_err(|e| e.to_string())?;
        for rule in forward_rules(cluster) {
            insert_rule(iptables(family), &words(&rule)).await?;
        }
    }
    Ok(())
}

/// How often a rule is put where it belongs: whoever keeps the Services' rules may be about it too.
const INSERTIONS_MAX: u32 = 4;

/// Inserts a rule unless it is there, behind what leads to the Services' rules of iptables: those refuse, and what is let
/// pass before them is never refused.
async fn insert_rule(program: &str, rule: &[&str]) -> Result<(), String> {
    let with = |verb: &[&'static str]| -> Vec<String> {
        ["-w"].iter().chain(verb).chain(rule).map(|word| (*word).to_owned()).collect()
    };
    for _ in 0..INSERTIONS_MAX {
        let listing = match run(program, &["-w", "-S", "FORWARD"]).await {
            // A node without iptables has no rules of it that could be in the way.
            Err(why) if why.contains("does not run") => return Ok(()),
            listing => listing?,
        };
        let (place, ahead) = behind_services(&listing, rule);
        if run(program, &words(&with(&["-C"]))).await.is_ok() {
            if !ahead {
                return Ok(());
            }
            run(program, &words(&with(&["-D"]))).await?;
        }
        let mut insert = with(&["-I"]);
        // After the chain's name.
        insert.insert(3, place.to_string());
        run(program, &words(&insert)).await?;
    }
    tracing::warn!(program, "others keep putting rules ahead of those that lead to Services");
    Ok(())
}

/// Where in a chain, of which this is the listing, a rule stands right behind what leads to the Services' rules, and whether
/// it stands ahead of that.
fn behind_services(listing: &str, rule: &[&str]) -> (usize, bool) {
    let rules: Vec<Vec<String>> =
        listing.lines().map(split_quoted).filter(|parts| parts.first().is_some_and(|p| p == "-A")).collect();
    let last = rules.iter().rposition(|parts| parts.iter().any(|part| part == SERVICES));
    let own = rules.iter().position(|parts| parts[1..] == *rule);
    (last.map_or(0, |last| last + 1) + 1, own.zip(last).is_some_and(|(own, last)| own < last))
}

/// Makes the machine a router of IPv6. A router takes no routes from others' announcements unless told; whoever got
/// theirs so is to keep them.
async fn forward_ipv6() -> Result<(), String> {
    const FORWARDING: &str = "net/ipv6/conf/all/forwarding";
    let path = format!("/proc/sys/{FORWARDING}");
    let forwards = tokio::fs::read_to_string(&path).await.map_err(|e| format!("{path}: {e}"))?;
    if forwards.trim() == "1" {
        return Ok(());
    }
    let folder = "/proc/sys/net/ipv6/conf";
    let mut interfaces = tokio::fs::read_dir(folder).await.map_err(|e| format!("{folder}: {e}"))?;
    while let Ok(Some(interface)) = interfaces.next_entry().await {
        let name = interface.file_name();
        let Some(name) = name.to_str().filter(|name| !matches!(*name, "all" | "default")) else { continue };
        let accepts = interface.path().join("accept_ra");
        if tokio::fs::read_to_string(&accepts).await.is_ok_and(|text| text.trim() == "1") {
            write_sysctl(&format!("net/ipv6/conf/{name}/accept_ra"), "2").await?;
        }
    }
    write_sysctl(FORWARDING, "1").await
}

/// Switches IPv6 on where it is switched off, on an interface of ours: on machines that use none, new ones begin without.
pub async fn use_ipv6(interface: &str) -> Result<(), String> {
    write_sysctl(&format!("net/ipv6/conf/{interface}/disable_ipv6"), "0").await
}

/// Undoes [`open`], and removes the bridge and what the portmap plugin leaves behind.
pub async fn close(bridge: &str) {
    for family in Family::ALL {
        let program = iptables(family);
        // By their mark: whoever cleans up need not know for which addresses they were.
        let listing = run(program, &["-w", "-S", "FORWARD"]).await.unwrap_or_default();
        for rule in marked_rules(&listing) {
            let delete: Vec<&str> = std::iter::once("-w").chain(words(&rule)).collect();
            if let Err(error) = run(program, &delete).await {
                tracing::warn!(error, "a rule that lets pods' packets pass stays");
            }
        }
        remove_portmap_chains(program).await;
    }
    for family in Family::here() {
        if let Err(error) = nft::remove_table(&table(*family, bridge)).await {
            tracing::warn!(%error, "the pods' masquerading rules stay");
        }
    }
    let removed = async { Netlink::connect()?.remove_link(bridge).await };
    if let Err(error) = removed.await {
        tracing::warn!(%error, bridge, "the bridge stays");
    }
}

/// The commands that remove our rules, given what `iptables -S FORWARD` says.
pub fn marked_rules(listing: &str) -> Vec<Vec<String>> {
    let ours = |parts: &Vec<String>| parts.iter().any(|part| part == COMMENT);
    let rules = listing.lines().map(split_quoted).filter(ours);
    rules.map(|parts| std::iter::once("-D".to_owned()).chain(parts.into_iter().skip(1)).collect()).collect()
}

/// The commands that remove the portmap plugin's chains, given what `iptables -t nat -S` says; empty while
/// some pod (ours or another engine's) still has a port in them.
pub fn portmap_leftovers(listing: &str) -> Vec<Vec<String>> {
    let ours = |line: &str| line.contains("CNI-HOSTPORT-") || line.contains("CNI-DN-");
    if listing.lines().any(|l| l.starts_with("-A CNI-HOSTPORT-DNAT") || l.contains("-j CNI-DN-")) {
        return Vec::new();
    }
    let mut jumps = Vec::new();
    let mut chains = Vec::new();
    for line in listing.lines().filter(|l| ours(l)) {
        let parts = split_quoted(line);
        match parts.first().map(String::as_str) {
            Some("-A") => {
                jumps.push(std::iter::once("-D".to_owned()).chain(parts.into_iter().skip(1)).collect())
            }
            Some("-N") => chains.push(vec!["-X".to_owned(), parts.get(1).cloned().unwrap_or_default()]),
            _ => {}
        }
    }
    jumps.extend(chains);
    jumps
}

fn split_quoted(line: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for (i, piece) in line.split('"').enumerate() {
        if i % 2 == 1 {
            parts.push(piece.to_owned());
        } else {
            parts.extend(piece.split_whitespace().map(str::to_owned));
        }
    }
    parts
}

async fn remove_portmap_chains(program: &str) {
    let Ok(listing) = run(program, &["-w", "-t", "nat", "-S"]).await else { return };
    for command in portmap_leftovers(&listing) {
        let arguments: Vec<&str> = ["-w", "-t", "nat"].into_iter().chain(words(&command)).collect();
        if let Err(error) = run(program, &arguments).await {
            tracing::debug!(%error, "a host port chain stays");
        }
    }
}

async fn write_sysctl(name: &str, value: &str) -> Result<(), String> {
    let path = format!("/proc/sys/{name}");
    let current = tokio::fs::read_to_string(&path).await.map_err(|e| format!("{path}: {e}"))?;
    if current.trim() == value {
        return Ok(());
    }
    tokio::fs::write(&path, value).await.map_err(|e| format!("{path}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_by_their_mark() {
        let listing = "-P FORWARD DROP\n-A FORWARD -d 10.244.0.0/16 -m comment --comment \"troupe pods\" -j ACCEPT\n\
                       -A FORWARD -j DOCKER-USER\n-A FORWARD -m comment --comment \"not troupe pods\" -j ACCEPT\n";
        let found = marked_rules(listing);
        let wanted = [
            "-D",
            "FORWARD",
            "-d",
            "10.244.0.0/16",
            "-m",
            "comment",
            "--comment",
            "troupe pods",
            "-j",
            "ACCEPT",
        ];
        assert_eq!(found, [wanted.map(str::to_owned).to_vec()]);
    }

    #[test]
    fn pods_packets_pass_behind_what_refuses() {
        let rules = forward_rules("10.244.0.0/16".parse().expect("a range"));
        let own = "-A FORWARD -s 10.244.0.0/16 -m comment --comment \"troupe pods\" -j ACCEPT\n";
        let services = "-A FORWARD -m comment --comment \"troupe services\" -j TROUPE-FORWARD\n";
        let (policy, other) = ("-P FORWARD DROP\n", "-A FORWARD -j DOCKER-USER\n");
        for (listing, wanted) in [
            (vec![policy, other], (1, false)),
            (vec![policy, own, other], (1, false)),
            (vec![policy, services, other], (2, false)),
            (vec![policy, services, own, other], (2, false)),
            (vec![policy, own, services, other], (3, true)),
            (vec![policy, other, services], (3, false)),
        ] {
            assert_eq!(behind_services(&listing.concat(), &words(&rules[0])), wanted, "{listing:?}");
        }
    }

    #[test]
    fn portmap_chains_go_when_nobody_uses_them() {
        let idle = "-P PREROUTING ACCEPT\n-N CNI-HOSTPORT-DNAT\n-N CNI-HOSTPORT-MASQ\n-N DOCKER\n\
                    -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
                    -A POSTROUTING -m comment --comment \"CNI portfwd masquerade mark\" -j CNI-HOSTPORT-MASQ\n";
        let commands = portmap_leftovers(idle);
        assert_eq!(commands.len(), 4);
        assert_eq!(commands[0].join(" "), "-D PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT");
        assert!(commands[1].contains(&"CNI portfwd masquerade mark".to_owned()));
        assert_eq!(commands[2], ["-X", "CNI-HOSTPORT-DNAT"]);
        let used = format!("{idle}-A CNI-HOSTPORT-DNAT -p tcp -j CNI-DN-0123\n");
        assert!(portmap_leftovers(&used).is_empty());
    }
}
