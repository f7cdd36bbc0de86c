//! Holds the shape of the house: which crate may import which, and what only one place may name.
//!
//! actors ← protocol ← {master, node} ← integration. Reads manifests and sources as text; starts nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// Each crate with what it must not depend on, tests and build scripts included.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "actors",
        &[
            "protocol",
            "master",
            "node",
            "troupe",
            "k8s-openapi",
            "kube",
            "actix-web",
            "bollard",
            "etcd-client",
            "redb",
        ],
        "the stage knows nothing of Kubernetes and could be published alone",
    ),
    (
        "protocol",
        &[
            "master",
            "node",
            "troupe",
            "actix",
            "actix-rt",
            "actix-tls",
            "actix-web",
            "actix-ws",
            "bincode",
            "bollard",
            "etcd-client",
            "hickory-proto",
            "hickory-resolver",
            "hickory-server",
            "kube",
            "nix",
            "redb",
            "reqwest",
            "rtnetlink",
            "rustls",
            "tokio-rustls",
        ],
        "the vocabulary does no I/O",
    ),
    (
        "master",
        &["node", "troupe", "bincode", "bollard", "kube", "rtnetlink"],
        "the master reaches nodes by their links alone, and containers never",
    ),
    (
        "node",
        &["master", "troupe", "bincode", "etcd-client", "kube", "redb"],
        "a node reaches the master by its link alone, and the store never",
    ),
    (
        "integration",
        &["bincode", "bollard", "etcd-client", "redb"],
        "integration puts parts together and has no others",
    ),
];

/// What may be named in code only where paths begin so; an empty list means nowhere.
const NAMED_ONLY_IN: &[(&[&str], &[&str], &str)] = &[
    (&["bincode"], &["actors/src/link/codec.rs"], "bincode is unmaintained: one file to replace"),
    (
        &["etcd_client"],
        &["master/src/store/etcd", "master/tests/store_contract/etcd.rs"],
        "there is no second way to the store",
    ),
    (&["redb::"], &["master/src/store/embedded"], "there is no second way to the store"),
    (&["bollard"], &["node/src/runtime", "node/src/kubelet/tests"], "the engine is behind ContainerRuntime"),
    (
        &["do_send"],
        &["actors/benches/", "actors/tests/"],
        "it ignores the mailbox's bound: use ActorRef::tell or try_tell",
    ),
    (
        &[
            "unbounded_channel",
            "UnboundedSender",
            "UnboundedReceiver",
            "unbounded(",
            "unbounded::<",
            "mpsc::channel()",
        ],
        &[],
        "everything has a limit: use a bounded channel and decide what happens when it is full",
    ),
];

/// Modules of the standard library and of tokio that do I/O.
const IO: &[&str] =
    &["std::fs", "std::net", "std::process", "tokio::fs", "tokio::net", "tokio::process", "tokio::signal"];

const CRATES: &[&str] = &["actors", "protocol", "master", "node", "integration"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// The packages that a manifest depends on, in all of its dependency tables.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table.ends_with("dependencies");
            // `[dependencies.name]` is a table for one package.
            if let Some((_, name)) = table.split_once("dependencies.") {
                found.push(name.to_owned());
            }
        } else if inside {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            let package = line.split("package = \"").nth(1).and_then(|rest| rest.split('"').next());
            found.push(package.unwrap_or(name).to_owned());
        }
    }
    for name in &mut found {
        if let Some(short) = name.trim_matches('"').strip_prefix("troupe-") {
            *name = short.to_owned();
        }
    }
    found
}

/// Lines of code, with their numbers: comments may name anything.
fn code(source: &str) -> impl Iterator<Item = (usize, &str)> {
    source
        .lines()
        .enumerate()
        .map(|(n, line)| (n + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Every Rust file of the workspace's crates but this one, relative to the root.
fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, root: &Path, into: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("a folder's entry").path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    walk(&path, root, into);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
                let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
                into.push((name, text));
            }
        }
    }
    let (root, mut found) = (root(), Vec::new());
    for one in CRATES {
        walk(&root.join(one), &root, &mut found);
    }
    found.retain(|(name, _)| name != "integration/tests/imports.rs");
    assert!(found.len() > 100, "only {} sources found: this test looks in the wrong place", found.len());
    found
}

/// Where code names one of `words` outside of `places`.
fn trespasses(sources: &[(String, String)], words: &[&str], places: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in sources.iter().filter(|(name, _)| !places.iter().any(|place| name.starts_with(place)))
    {
        for (number, line) in code(text).filter(|(_, line)| words.iter().any(|word| line.contains(word))) {
            found.push(format!("{name}:{number}: {}", line.trim()));
        }
    }
    found
}

#[test]
fn crates_import_in_one_direction_only() {
    for (name, forbidden, reason) in FORBIDDEN {
        let path = root().join(name).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let dependencies = dependencies(&manifest);
        assert!(!dependencies.is_empty(), "{name}: no dependency was understood");
        for one in &dependencies {
            assert!(!forbidden.contains(&one.as_str()), "{name} depends on {one}, but {reason}");
        }
    }
}

#[test]
fn every_member_is_held_to_a_direction() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace's manifest");
    let members = manifest.lines().find(|l| l.starts_with("members")).expect("a line of members");
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert_eq!(members, CRATES, "a new crate needs a line in this test");
    assert_eq!(FORBIDDEN.iter().map(|f| f.0).collect::<Vec<_>>(), CRATES);
}

#[test]
fn some_things_are_named_in_one_place_only() {
    let sources = sources();
    for (words, places, reason) in NAMED_ONLY_IN {
        let found = trespasses(&sources, words, places);
        assert!(found.is_empty(), "{words:?}: {reason}\n{}", found.join("\n"));
    }
}

#[test]
fn the_vocabulary_does_no_io() {
    let mut sources = sources();
    sources.retain(|(name, _)| name.starts_with("protocol/src/"));
    let found = trespasses(&sources, IO, &[]);
    assert!(found.is_empty(), "protocol does I/O\n{}", found.join("\n"));
}

#[test]
fn manifests_are_understood() {
    let manifest = r#"
[package]
name = "troupe-x"
[dependencies]
actors.workspace = true
nix = { workspace = true, features = ["user"] }
alias = { package = "troupe-node", path = "../node" }
# commented = "1"
[dependencies.redb]
version = "4"
[target.'cfg(unix)'.dev-dependencies]
kube = "5"
[features]
none = []
"#;
    assert_eq!(dependencies(manifest), ["actors", "nix", "node", "redb", "kube"]);
}

#[test]
fn trespasses_are_found() {
    let source = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let sources = [
        source("a/src/x.rs", "// do_send is banned\naddr.do_send(Ping);\n"),
        source("a/benches/x.rs", "addr.do_send(Ping);\n"),
    ];
    assert_eq!(trespasses(&sources, &["do_send"], &["a/benches/"]), ["a/src/x.rs:2: addr.do_send(Ping);"]);
}
