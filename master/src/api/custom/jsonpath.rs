//! JSON paths as printer columns use them: `.spec.list[?(@.type=="Ready")].status`.
//!
//! Parsing and evaluation are linear in path and object, but for `..`, which visits everything below; what it
//! finds is bounded.

use serde_json::Value;

/// Most values that a path finds; a column shows the first.
const FOUND_MAX: usize = 4096;
const STEPS_MAX: usize = 128;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Fields(Vec<String>),
    All,
    Descend,
    Index(i64),
    Slice(Option<i64>, Option<i64>, i64),
    Filter(Box<Filter>),
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: Operand,
    compare: Option<(String, Operand)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(JsonPath),
    Value(Value),
}

struct Parser<'a> {
    rest: &'a str,
}

impl JsonPath {
    /// Parses a path that begins with a dot or a bracket.
    pub fn parse(text: &str) -> Result<JsonPath, String> {
        let mut parser = Parser { rest: text };
        let mut steps = Vec::new();
        while !parser.rest.is_empty() {
            if steps.len() >= STEPS_MAX {
                return Err("too many steps".to_owned());
            }
            parser.step(&mut steps)?;
        }
        Ok(JsonPath { steps })
    }

    /// What the path finds, in order.
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![root];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in found {
                step.apply(value, &mut next);
                next.truncate(FOUND_MAX);
            }
            found = next;
        }
        found
    }
}

impl Parser<'_> {
    fn name(&mut self) -> String {
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                '.' | '[' | ' ' | '|' | '=' | '<' | '>' | '!' | ')' | ']' | '(' => {
                    end = i;
                    break;
                }
                c => name.push(c),
            }
        }
        self.rest = &self.rest[end..];
        name
    }

    fn step(&mut self, steps: &mut Vec<Step>) -> Result<(), String> {
        if let Some(rest) = self.rest.strip_prefix("..") {
            self.rest = rest;
            steps.push(Step::Descend);
            let name = self.name();
            if !name.is_empty() {
                steps.push(if name == "*" { Step::All } else { Step::Field(name) });
            }
            return Ok(());
        }
        if let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            if rest.starts_with('[') || rest.is_empty() {
                return Ok(());
            }
            let name = self.name();
            if name.is_empty() {
                return Err(format!(
                    "unrecognized character in action: {:?}",
                    rest.chars().next().unwrap_or(' ')
                ));
            }
            steps.push(if name == "*" { Step::All } else { Step::Field(name) });
            return Ok(());
        }
        if let Some(rest) = self.rest.strip_prefix('[') {
            let end = closing(rest).ok_or("unterminated array")?;
            let inner = rest[..end].trim();
            self.rest = &rest[end + 1..];
            steps.push(bracket(inner)?);
            return Ok(());
        }
        Err(format!("unrecognized character in action: {:?}", self.rest.chars().next().unwrap_or(' ')))
    }
}

/// Where the bracket that was opened before `text` closes.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[' | '(') => depth += 1,
            (None, ']') if depth == 0 => return Some(i),
            (None, ']' | ')') => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    Some(inner.replace(&format!("\\{quote}"), &quote.to_string()).replace("\\\\", "\\"))
}

fn bracket(inner: &str) -> Result<Step, String> {
    if inner == "*" {
        return Ok(Step::All);
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|f| f.strip_suffix(')')) {
        return Ok(Step::Filter(Box::new(parse_filter(filter)?)));
    }
    if inner.starts_with(['\'', '"']) {
        let names: Option<Vec<String>> = inner.split(',').map(|n| unquote(n.trim())).collect();
        let mut names = names.ok_or_else(|| format!("invalid array index {inner}"))?;
        return Ok(match names.len() {
            1 => Step::Field(names.remove(0)),
            _ => Step::Fields(names),
        });
    }
    let number = |text: &str| -> Result<Option<i64>, String> {
        if text.is_empty() {
            Ok(None)
        } else {
            text.parse().map(Some).map_err(|_| format!("invalid array index {inner}"))
        }
    };
    let parts: Vec<&str> = inner.split(':').collect();
    match parts.as_slice() {
        [one] => Ok(Step::Index(number(one)?.ok_or_else(|| format!("invalid array index {inner}"))?)),
        [from, to] => Ok(Step::Slice(number(from)?, number(to)?, 1)),
        [from, to, step] => {
            let step = number(step)?.unwrap_or(1);
            if step <= 0 {
                Err("step must be > 0".to_owned())
            } else {
                Ok(Step::Slice(number(from)?, number(to)?, step))
            }
        }
        _ => Err(format!("invalid array index {inner}")),
    }
}

fn parse_filter(text: &str) -> Result<Filter, String> {
    for operator in ["==", "!=", "<=", ">=", "<", ">"] {
        if let Some((left, right)) = text.split_once(operator) {
            let right = operand(right.trim())?;
            return Ok(Filter { left: operand(left.trim())?, compare: Some((operator.to_owned(), right)) });
        }
    }
    Ok(Filter { left: operand(text.trim())?, compare: None })
}

fn operand(text: &str) -> Result<Operand, String> {
    if let Some(path) = text.strip_prefix('@') {
        return JsonPath::parse(path).map(Operand::Path);
    }
    if let Some(quoted) = unquote(text) {
        return Ok(Operand::Value(quoted.into()));
    }
    serde_json::from_str(text).map(Operand::Value).map_err(|_| format!("unrecognized identifier {text}"))
}

impl Operand {
    fn value<'a>(&'a self, at: &'a Value) -> Option<&'a Value> {
        match self {
            Operand::Path(path) => path.find(at).into_iter().next(),
            Operand::Value(value) => Some(value),
        }
    }
}

impl Filter {
    fn holds(&self, at: &Value) -> bool {
        let left = self.left.value(at);
        let Some((operator, right)) = &self.compare else { return left.is_some() };
        let (Some(left), Some(right)) = (left, right.value(at)) else { return false };
        let order = match (left.as_f64(), right.as_f64(), left.as_str(), right.as_str()) {
            (Some(l), Some(r), ..) => l.partial_cmp(&r),
            (.., Some(l), Some(r)) => Some(l.cmp(r)),
            _ if left == right => Some(std::cmp::Ordering::Equal),
            _ => None,
        };
        match operator.as_str() {
            "==" => order.is_some_and(|o| o.is_eq()),
            "!=" => !order.is_some_and(|o| o.is_eq()),
            "<" => order.is_some_and(|o| o.is_lt()),
            "<=" => order.is_some_and(|o| o.is_le()),
            ">" => order.is_some_and(|o| o.is_gt()),
            _ => order.is_some_and(|o| o.is_ge()),
        }
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(map) => Box::new(map.values()),
        _ => Box::new(std::iter::empty()),
    }
}

impl Step {
    fn apply<'a>(&self, value: &'a Value, out: &mut Vec<&'a Value>) {
        match self {
            Step::Field(name) => out.extend(value.get(name)),
            Step::Fields(names) => out.extend(names.iter().filter_map(|n| value.get(n))),
            Step::All => out.extend(children(value)),
            Step::Descend => {
                let mut waiting = vec![value];
                while let Some(next) = waiting.pop() {
                    if out.len() >= FOUND_MAX {
                        return;
                    }
                    out.push(next);
                    waiting.extend(children(next));
                }
            }
            Step::Index(i) => {
                let Some(items) = value.as_array() else { return };
                let at = if *i < 0 { *i + items.len() as i64 } else { *i };
                out.extend(usize::try_from(at).ok().and_then(|at| items.get(at)));
            }
            Step::Slice(from, to, step) => {
                let Some(items) = value.as_array() else { return };
                let len = items.len() as i64;
                let place = |i: i64| (if i < 0 { i + len } else { i }).clamp(0, len) as usize;
                let (from, to) = (place(from.unwrap_or(0)), place(to.unwrap_or(len)));
                if from < to {
                    out.extend(items[from..to].iter().step_by(usize::try_from(*step).unwrap_or(1)));
                }
            }
            Step::Filter(filter) => {
                if let Some(items) = value.as_array() {
                    out.extend(items.iter().filter(|item| filter.holds(item)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_what_they_name() {
        let root = json!({"spec": {"l": [{"k": "a", "v": "1"}, {"k": "b", "v": "2", "n": 5}], "a.b": true}});
        for (path, wanted) in [
            (".spec.l[*].k", json!(["a", "b"])),
            (".spec.l[?(@.k==\"b\")].v", json!(["2"])),
            (".spec.l[?(@.n>4)].v", json!(["2"])),
            (".spec.l[?(@.n)].k", json!(["b"])),
            (".spec.l[0].k", json!(["a"])),
            (".spec.l[-1].k", json!(["b"])),
            (".spec.l[5].k", json!([])),
            (".spec.l[0:1].k", json!(["a"])),
            (".spec['a.b']", json!([true])),
            (".spec.a\\.b", json!([true])),
            (".spec..v", json!(["2", "1"])),
            (".none.x", json!([])),
        ] {
            let found = JsonPath::parse(path).unwrap_or_else(|e| panic!("{path}: {e}"));
            assert_eq!(json!(found.find(&root)), wanted, "{path}");
        }
        for bad in [".spec[", ".spec[x]", ".[?(x y)]", ".a[::0]"] {
            assert!(JsonPath::parse(bad).is_err(), "{bad}");
        }
    }
}
