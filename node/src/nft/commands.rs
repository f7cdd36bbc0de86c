//! The commands of one transaction, in the order in which the kernel can take them. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Elements given to `nft` in one command; longer lists are cut, to keep its parser's stack small.
const ELEMENTS_PER_COMMAND_MAX: usize = 500;

/// The commands of one transaction on one table: a chain or map exists before something refers to it, and
/// nothing refers to it any more when it goes.
#[derive(Debug)]
pub struct Commands {
    table: &'static str,
    declare: String,
    delete_elements: BTreeMap<String, Vec<String>>,
    rules: String,
    add_elements: BTreeMap<String, Vec<String>>,
    delete_chains: String,
    delete_maps: String,
}

/// What makes the table empty, whether or not it is there: `add` before `delete` makes the deletion succeed.
pub fn emptied(table: &str) -> String {
    format!("add table {table}\ndelete table {table}\nadd table {table}\n")
}

/// What removes the table, whether or not it is there.
pub fn removed(table: &str) -> String {
    format!("add table {table}\ndelete table {table}\n")
}

impl Commands {
    /// Nothing yet, about the table of this family and name.
    pub fn new(table: &'static str) -> Self {
        Commands {
            table,
            declare: String::new(),
            delete_elements: BTreeMap::new(),
            rules: String::new(),
            add_elements: BTreeMap::new(),
            delete_chains: String::new(),
            delete_maps: String::new(),
        }
    }

    /// A set or map (`kind`) comes.
    pub fn declare(&mut self, kind: &str, name: &str, body: &str) {
        let _ = writeln!(self.declare, "add {kind} {} {name} {{ {body} }}", self.table);
    }

    /// A chain comes.
    pub fn declare_chain(&mut self, name: &str) {
        let _ = writeln!(self.declare, "add chain {} {name}", self.table);
    }

    /// A set or map goes before others are declared: it comes anew under the same name. `chains` refer to it and
    /// are to be written anew too.
    pub fn withdraw<'a>(&mut self, kind: &str, name: &str, chains: impl IntoIterator<Item = &'a String>) {
        for chain in chains {
            let _ = writeln!(self.declare, "flush chain {} {chain}", self.table);
        }
        let _ = writeln!(self.declare, "delete {kind} {} {name}", self.table);
    }

    /// A chain goes.
    pub fn delete_chain(&mut self, name: &str) {
        let _ = writeln!(self.rules, "flush chain {} {name}", self.table);
        let _ = writeln!(self.delete_chains, "delete chain {} {name}", self.table);
    }

    /// A chain's rules, in place of those that it has where `anew`.
    pub fn write_chain<'a>(&mut self, name: &str, anew: bool, rules: impl IntoIterator<Item = &'a String>) {
        if anew {
            let _ = writeln!(self.rules, "flush chain {} {name}", self.table);
        }
        for rule in rules {
            let _ = writeln!(self.rules, "add rule {} {name} {rule}", self.table);
        }
    }

    /// A set or map goes, with its elements.
    pub fn delete_map(&mut self, kind: &str, name: &str) {
        let _ = writeln!(self.delete_maps, "delete {kind} {} {name}", self.table);
    }

    /// An element goes.
    pub fn delete_element(&mut self, map: &str, element: String) {
        self.delete_elements.entry(map.to_owned()).or_default().push(element);
    }

    /// An element comes; `value` is empty in a set.
    pub fn add_element(&mut self, map: &str, element: String, value: &str) {
        let element = if value.is_empty() { element } else { format!("{element} : {value}") };
        self.add_elements.entry(map.to_owned()).or_default().push(element);
    }

    /// All of it, for `nft -f`; empty when nothing changes.
    pub fn text(self) -> String {
        let mut text = self.declare;
        elements(&mut text, "delete", self.table, &self.delete_elements);
        text.push_str(&self.rules);
        elements(&mut text, "add", self.table, &self.add_elements);
        text.push_str(&self.delete_chains);
        text.push_str(&self.delete_maps);
        text
    }
}

fn elements(text: &mut String, command: &str, table: &str, by_map: &BTreeMap<String, Vec<String>>) {
    for (map, elements) in by_map {
        for part in elements.chunks(ELEMENTS_PER_COMMAND_MAX) {
            let _ = writeln!(text, "{command} element {table} {map} {{ {} }}", part.join(", "));
        }
    }
}
