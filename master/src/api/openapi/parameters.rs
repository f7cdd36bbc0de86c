//! The parameters that operations have, with words about each.

use protocol::Verb;
use protocol::Verb::{Create, Delete, DeleteCollection, Get, List, Patch, Update, Watch};
use serde_json::{Value, json};

use super::form::Form;

/// A parameter of a path or of its query.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parameter {
    name: &'static str,
    place: &'static str,
    kind: &'static str,
    said: String,
}

impl Parameter {
    /// A part of the path.
    pub fn path(name: &'static str, said: impl Into<String>) -> Self {
        Parameter { name, place: "path", kind: "string", said: said.into() }
    }

    fn query((name, kind, said): &(&'static str, &'static str, &'static str)) -> Self {
        Parameter { name, place: "query", kind, said: (*said).to_owned() }
    }

    /// As a document of that form has it.
    pub fn write(&self, form: Form) -> Value {
        let mut made = json!({"name": self.name, "in": self.place, "description": self.said});
        if self.place == "path" {
            made["required"] = true.into();
        }
        match form {
            Form::V2 => {
                made["type"] = self.kind.into();
                made["uniqueItems"] = true.into();
            }
            Form::V3 => made["schema"] = json!({"type": self.kind, "uniqueItems": true}),
        }
        made
    }
}

type Words = (&'static str, &'static str, &'static str);

const PRETTY: Words = ("pretty", "string", "`true` for output that people read easily.");
const DRY_RUN: Words =
    ("dryRun", "string", "`All` for a request that goes through all stages, of which nothing is kept.");
const FIELD_MANAGER: Words = (
    "fieldManager",
    "string",
    "Who makes the change, as it will stand in `managedFields`: up to 128 printable characters. Applies need it.",
);
const FIELD_VALIDATION: Words = (
    "fieldValidation",
    "string",
    "What becomes of fields that are unknown or there twice: `Ignore`, `Warn` (where nothing is said) or `Strict`.",
);
const FORCE: Words = ("force", "boolean", "Takes over fields that other managers own. Only for applies.");
const GRACE_PERIOD: Words = (
    "gracePeriodSeconds",
    "integer",
    "Seconds that the object has to end; 0 for none. Where nothing is said, the object's own.",
);
const IGNORE_STORE: Words = (
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "boolean",
    "Deletes an object that cannot be read from the store, past its finalizers. May break the cluster.",
);
const ORPHAN: Words = (
    "orphanDependents",
    "boolean",
    "The older way to say what becomes of dependents; not beside `propagationPolicy`.",
);
const PROPAGATION: Words =
    ("propagationPolicy", "string", "What becomes of dependents: `Orphan`, `Background` or `Foreground`.");
const BOOKMARKS: Words = (
    "allowWatchBookmarks",
    "boolean",
    "A watch may say from time to time how far it is, by events of type BOOKMARK.",
);
const CONTINUE: Words = (
    "continue",
    "string",
    "Where a list goes on, as its last page said. All else must be as it was for that page.",
);
const FIELD_SELECTOR: Words = ("fieldSelector", "string", "Only objects with these values of fields.");
const LABEL_SELECTOR: Words = ("labelSelector", "string", "Only objects with these labels.");
const LIMIT: Words = ("limit", "integer", "How many objects a page has at most.");
const RESOURCE_VERSION: Words = ("resourceVersion", "string", "The state that is meant.");
const VERSION_MATCH: Words = (
    "resourceVersionMatch",
    "string",
    "How `resourceVersion` is meant by a list: `Exact` or `NotOlderThan`.",
);
const SEND_INITIAL: Words = (
    "sendInitialEvents",
    "boolean",
    "A watch begins with the objects that there are, and a bookmark after them.",
);
const SHARD_SELECTOR: Words = ("shardSelector", "string", "Only a share of the objects.");
const TIMEOUT: Words = ("timeoutSeconds", "integer", "Seconds after which a list or watch ends.");
const WATCH: Words = ("watch", "boolean", "Changes from now on, instead of a list.");

const WRITE: &[Words] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const DELETE: &[Words] = &[DRY_RUN, GRACE_PERIOD, IGNORE_STORE, ORPHAN, PROPAGATION];
/// What chooses objects.
const CHOICE: &[Words] = &[
    CONTINUE,
    FIELD_SELECTOR,
    LABEL_SELECTOR,
    LIMIT,
    RESOURCE_VERSION,
    VERSION_MATCH,
    SEND_INITIAL,
    SHARD_SELECTOR,
    TIMEOUT,
];

/// The options of connections, and of logs, by the kind that carries them.
const OF_CONNECTIONS: &[(&str, &[Words])] = &[
    (
        "PodAttachOptions",
        &[
            ("container", "string", "Which container, where there are several."),
            ("stderr", "boolean", "Whether its errors are wanted."),
            ("stdin", "boolean", "Whether its input is sent."),
            ("stdout", "boolean", "Whether its output is wanted."),
            ("tty", "boolean", "Whether it has a terminal."),
        ],
    ),
    (
        "PodExecOptions",
        &[
            ("command", "string", "The program and its arguments, one each; no shell reads them."),
            ("container", "string", "Which container, where there are several."),
            ("stderr", "boolean", "Whether its errors are wanted."),
            ("stdin", "boolean", "Whether its input is sent."),
            ("stdout", "boolean", "Whether its output is wanted."),
            ("tty", "boolean", "Whether it has a terminal."),
        ],
    ),
    ("PodPortForwardOptions", &[("ports", "integer", "The ports; WebSockets need them.")]),
    ("PodProxyOptions", &[PROXIED]),
    ("ServiceProxyOptions", &[PROXIED]),
    ("NodeProxyOptions", &[PROXIED]),
    (
        "PodLogOptions",
        &[
            ("container", "string", "Which container, where there are several."),
            ("follow", "boolean", "Whether to go on with what is yet to be written."),
            (
                "insecureSkipTLSVerifyBackend",
                "boolean",
                "Whether to take the log from a node that cannot prove who it is.",
            ),
            ("limitBytes", "integer", "Bytes after which to end."),
            ("previous", "boolean", "The log of the container before this one."),
            ("sinceSeconds", "integer", "Only what was written in the last seconds."),
            ("stream", "string", "`All`, `Stdout` or `Stderr`."),
            ("tailLines", "integer", "How many of the last lines."),
            ("timestamps", "boolean", "Whether each line begins with its time."),
        ],
    ),
];
const PROXIED: Words = ("path", "string", "The path that is passed on.");

/// The query of an operation on objects of kinds of the table.
pub fn of(verb: Verb) -> Vec<Parameter> {
    let own: &[&[Words]] = match verb {
        Create | Update => &[WRITE],
        Patch => &[WRITE, &[FORCE]],
        Delete => &[DELETE],
        DeleteCollection => &[DELETE, CHOICE],
        List | Watch => &[CHOICE, &[BOOKMARKS, WATCH]],
        _ => &[],
    };
    made(own)
}

/// The query of an operation on objects of declared kinds.
pub fn of_declared(verb: Verb) -> Vec<Parameter> {
    match verb {
        Get => made(&[&[RESOURCE_VERSION]]),
        DeleteCollection => of(List),
        verb => of(verb),
    }
}

fn made(own: &[&[Words]]) -> Vec<Parameter> {
    own.iter().flat_map(|words| words.iter()).chain([&PRETTY]).map(Parameter::query).collect()
}

/// The options that a kind of options has.
pub fn of_options(kind: &str) -> Vec<Parameter> {
    let found = OF_CONNECTIONS.iter().find(|(name, _)| *name == kind);
    found.into_iter().flat_map(|(_, words)| words.iter()).map(Parameter::query).collect()
}
