//! The table of served kinds: what discovery, routing, RBAC, the store's keys and kubectl's columns are
//! made from. Adding a kind is one line of `data/resources.txt`.
//!
//! The table is parsed once, at first use; everything in it lives for the whole run. Kinds that clients declare
//! while it runs come from [`declared`].

use std::sync::LazyLock;

use crate::request::Verb;

mod declared;

pub use declared::{Declaration, declare};

/// One served kind in one API version.
#[derive(Clone, Debug)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version, such as `v1`.
    pub version: &'static str,
    /// Kind, such as `Pod`.
    pub kind: &'static str,
    /// Kind of the collection, such as `PodList`.
    pub list_kind: &'static str,
    /// Plural name: the path segment, and the name that RBAC uses.
    pub plural: &'static str,
    /// Singular name.
    pub singular: &'static str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// What may be done with it.
    pub verbs: &'static [Verb],
    /// Short names for kubectl.
    pub short_names: &'static [&'static str],
    /// Groups of kinds that kubectl knows, such as `all`.
    pub categories: &'static [&'static str],
    /// Hash that discovery shows, equal for kinds that are stored alike; empty for kinds never stored.
    pub storage_hash: &'static str,
    /// Group and version in which objects are stored (another one's, for views such as `events.k8s.io`).
    pub storage: (&'static str, &'static str),
    /// Subresources.
    pub subresources: &'static [Subresource],
    /// Field labels that selectors may use besides `metadata.name` and `metadata.namespace`.
    pub selectable: &'static [&'static str],
    /// Columns of the kind's Table; empty where upstream has the default ones.
    pub columns: &'static [Column],
    /// Declared by a client while the server runs: its fields are no table's affair.
    pub custom: bool,
}

/// A subresource such as `status` or `scale`.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// Path segment.
    pub name: &'static str,
    /// Kind of its body.
    pub kind: &'static str,
    /// Group and version of its body, where they differ from the parent's.
    pub api: Option<(&'static str, &'static str)>,
    /// What may be done with it.
    pub verbs: &'static [Verb],
}

/// One column of a Table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Header.
    pub name: &'static str,
    /// OpenAPI type.
    pub kind: &'static str,
    /// OpenAPI format; `name` marks the object's name.
    pub format: &'static str,
    /// 0 is always shown, 1 in wide output.
    pub priority: u8,
    /// What the column shows.
    pub description: &'static str,
}

/// What the column of names shows.
pub const NAME_COLUMN: &str = "The object's name, which no other of its kind has in its namespace";
/// What the column of ages, or of the times that they are counted from, shows.
pub const AGE_COLUMN: &str = "When the object was made";

impl Resource {
    /// `v1`, or `apps/v1`.
    pub fn api_version(&self) -> String {
        join(self.group, self.version)
    }

    /// The group as store keys and the cache name it: `core` for the core group, the storage group for views.
    pub fn storage_group(&self) -> &'static str {
        if self.storage.0.is_empty() { "core" } else { self.storage.0 }
    }

    /// Whether this version only shows objects that are stored as another one's.
    pub fn is_view(&self) -> bool {
        // Usual kinds are stored as themselves: the very same words. Every event of every watch asks this.
        let same = |a: &'static str, b: &'static str| std::ptr::eq(a, b) || a == b;
        !(same(self.storage.0, self.group) && same(self.storage.1, self.version))
    }

    /// The kind as which objects are stored: itself, but for views.
    pub fn stored(&'static self) -> &'static Resource {
        if !self.is_view() {
            return self;
        }
        find(self.storage.0, self.storage.1, self.plural).unwrap_or(self)
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether `verb` is offered.
    pub fn allows(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }

    /// Whether objects of the kind are stored (reviews and bindings are only ever created).
    pub fn is_stored(&self) -> bool {
        !self.storage_hash.is_empty()
    }

    /// The store's key of an object: `/registry/<group>/<plural>/[<namespace>/]<name>`.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        self.joined(namespace, name)
    }

    /// The store's key prefix of a namespace's objects, or of all when `namespace` is empty.
    pub fn prefix(&self, namespace: &str) -> String {
        self.joined(namespace, "")
    }

    /// Each request makes some of these: they are allocated once and not formatted.
    fn joined(&self, namespace: &str, name: &str) -> String {
        let namespace = if self.namespaced { namespace } else { "" };
        let slash = if namespace.is_empty() { "" } else { "/" };
        ["/registry/", self.storage_group(), "/", self.plural, "/", namespace, slash, name].concat()
    }
}

fn join(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Every served kind, in discovery order.
pub fn all() -> &'static [Resource] {
    &TABLE.resources
}

/// The kind behind a path: group (empty for core), version, plural.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    all().iter().find(|r| r.plural == plural && r.group == group && r.version == version)
}

/// The kind of a group, in the version that is preferred.
pub fn find_any(group: &str, plural: &str) -> Option<&'static Resource> {
    all().iter().find(|r| r.plural == plural && r.group == group)
}

/// The kind by its own name.
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    all().iter().find(|r| r.kind == kind && r.group == group && r.version == version)
}

/// Groups with their versions, in discovery order; the first version is the preferred one. The core group
/// comes first.
pub fn groups() -> &'static [(&'static str, Vec<&'static str>)] {
    &TABLE.groups
}

struct Table {
    resources: Vec<Resource>,
    groups: Vec<(&'static str, Vec<&'static str>)>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| parse(include_str!("../data/resources.txt")));

/// What the lines of one kind gather before the kind is complete.
struct Draft {
    resource: Resource,
    subresources: Vec<Subresource>,
    columns: Vec<Column>,
}

impl Draft {
    fn finish(self) -> Resource {
        Resource { subresources: self.subresources.leak(), columns: self.columns.leak(), ..self.resource }
    }
}

fn parse(text: &'static str) -> Table {
    let mut table = Table { resources: Vec::new(), groups: Vec::new() };
    let mut draft: Option<Draft> = None;
    let mut at = ("", "");
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "group" => {
                table.resources.extend(draft.take().map(Draft::finish));
                let (group, version) = rest.split_once(' ').unwrap_or((rest, ""));
                at = (if group == "core" { "" } else { group }, version);
                match table.groups.iter_mut().find(|(g, _)| *g == at.0) {
                    Some((_, versions)) => versions.push(version),
                    None => table.groups.push((at.0, vec![version])),
                }
            }
            "res" => {
                table.resources.extend(draft.take().map(Draft::finish));
                draft = Some(resource(at, rest));
            }
            "sub" => draft.iter_mut().for_each(|d| d.subresources.push(subresource(d.resource.kind, rest))),
            "col" => draft.iter_mut().for_each(|d| d.columns.push(column(rest))),
            _ => {}
        }
    }
    table.resources.extend(draft.take().map(Draft::finish));
    table
}

fn resource((group, version): (&'static str, &'static str), line: &'static str) -> Draft {
    let mut words = line.split(' ');
    let mut next = || words.next().unwrap_or_default();
    let (plural, singular, kind, scope, letters) = (next(), next(), next(), next(), next());
    let mut resource = Resource {
        group,
        version,
        kind,
        list_kind: format!("{kind}List").leak(),
        plural,
        singular,
        namespaced: scope == "N",
        verbs: verbs(letters),
        short_names: &[],
        categories: &[],
        storage_hash: "",
        storage: (group, version),
        subresources: &[],
        selectable: &[],
        columns: &[],
        custom: false,
    };
    for (key, value) in words.filter_map(|w| w.split_once('=')) {
        match key {
            "short" => resource.short_names = list(value),
            "cat" => resource.categories = list(value),
            "hash" => resource.storage_hash = value,
            "store" => resource.storage = value.split_once('/').unwrap_or((group, version)),
            "fields" => resource.selectable = list(value),
            _ => {}
        }
    }
    Draft { resource, subresources: Vec::new(), columns: Vec::new() }
}

fn subresource(parent: &'static str, line: &'static str) -> Subresource {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let mut sub =
        Subresource { name, kind: parent, api: None, verbs: verbs(words.next().unwrap_or_default()) };
    for (key, value) in words.filter_map(|w| w.split_once('=')) {
        match key {
            "kind" => sub.kind = value,
            "gv" => sub.api = value.split_once('/'),
            _ => {}
        }
    }
    sub
}

fn column(line: &'static str) -> Column {
    let mut parts = line.splitn(5, ';');
    let mut next = || parts.next().unwrap_or_default();
    let (name, kind, format, priority) = (next(), next(), next(), next());
    let description = match (name, parts.next()) {
        (_, Some(own)) => own,
        (_, None) if format == "name" => NAME_COLUMN,
        ("Age" | "Created At", None) => AGE_COLUMN,
        _ => "",
    };
    Column { name, kind, format, priority: u8::from(priority == "1"), description }
}

fn list(value: &'static str) -> &'static [&'static str] {
    value.split(',').collect::<Vec<_>>().leak()
}

fn verbs(letters: &'static str) -> &'static [Verb] {
    let verb = |letter| match letter {
        'c' => Some(Verb::Create),
        'd' => Some(Verb::Delete),
        'D' => Some(Verb::DeleteCollection),
        'g' => Some(Verb::Get),
        'l' => Some(Verb::List),
        'p' => Some(Verb::Patch),
        'u' => Some(Verb::Update),
        'w' => Some(Verb::Watch),
        _ => None,
    };
    letters.chars().filter_map(verb).collect::<Vec<_>>().leak()
}

#[cfg(test)]
mod tests;
