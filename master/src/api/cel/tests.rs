use proptest::prelude::*;
use serde_json::json;

use super::*;

fn environment() -> Environment {
    let mut environment = Environment { binds: true, ..Environment::default() };
    environment.variables.insert("self".to_owned(), Type::Dyn);
    environment
}

fn run(source: &str, this: &serde_json::Value) -> Result<serde_json::Value, String> {
    let program = Program::compile(&environment(), source)?;
    let scope = Scope::new([("self", Value::of(this, &eval::DYN))]);
    let mut budget = TOTAL_COST_MAX;
    let value = program.evaluate(&scope, &mut budget).map_err(|e| e.to_string())?;
    Ok(value.to_json().unwrap_or_else(|| json!(library::to_text(&value))))
}

#[test]
fn conversions_that_must_fail_are_known_before() {
    let environment = Environment::default();
    let unready = |source: &str| Program::compile(&environment, source).expect(source).unready();
    let why = |to: &str| Some(format!("instantiation failed: type conversion error from 'string' to '{to}'"));
    assert_eq!(unready("int('x') > 1"), why("int"));
    assert_eq!(unready("true || [1.0].exists(d, d > double('y'))"), why("double"));
    let pattern = "instantiation failed: error parsing regexp: missing closing ): `(`".to_owned();
    assert_eq!(unready("'a'.find('(') == ''"), Some(pattern.clone()));
    assert_eq!(unready("['a'].exists(s, s.findAll('(', 1) == [])"), Some(pattern));
    assert!(unready(r"string(b'\xff') == ''").is_some_and(|why| why.contains("invalid UTF-8")));
    assert_eq!(unready("int('12') > 1 && bool('true')"), None);
    assert_eq!(unready("['x'].all(s, int(s) > 0)"), None);
}

#[test]
fn expressions_have_values() {
    let this = json!({"a": 1, "s": "text", "l": [1, 2, 3], "m": {"x-y": "z"}, "n": null});
    for (source, wanted) in [
        ("1 + 2 * 3", json!(7)),
        ("-(2 - 5) % 2", json!(1)),
        ("self.a == 1 && self.s != 'x'", json!(true)),
        ("self.a in self.l", json!(true)),
        ("'x-y' in self.m", json!(true)),
        ("self.m['x-y']", json!("z")),
        ("has(self.none) ? 1 : 2", json!(2)),
        ("self.l.all(x, x > 0) && self.l.exists(x, x == 2) && self.l.exists_one(x, x > 2)", json!(true)),
        ("self.l.map(x, x * 2)", json!([2, 4, 6])),
        ("self.l.map(x, x > 1, x * 2)", json!([4, 6])),
        ("self.l.filter(x, x > 1).size()", json!(2)),
        ("self.l.sum() + self.l.max() - self.l.min()", json!(8)),
        ("self.l.all(i, v, v == i + 1)", json!(true)),
        ("self.l.transformMapEntry(i, v, v > 1, {string(v): i})", json!({"2": 1, "3": 2})),
        ("[1].all(self, .self.a == 1 && self == 1)", json!(true)),
        (".size(.self.l) == 3 && .type(1) == .int", json!(true)),
        (".google.protobuf.Timestamp == type(timestamp('2020-01-02T03:04:05Z'))", json!(true)),
        ("self.none.x == 1 || true", json!(true)),
        ("string(1000000.0) + string(0.00001) + string(123456.5)", json!("1e+061e-05123456.5")),
        ("'%.20e|%s'.format([1.5, type(1)])", json!("1.500000×10⁰⁰|int")),
        ("self.s.substring(1, 3) + self.s.upperAscii()", json!("exTEXT")),
        ("'a,b'.split(',').join('-')", json!("a-b")),
        ("'%s has %d'.format(['x', 2])", json!("x has 2")),
        ("self.s.matches('^t.*t$')", json!(true)),
        ("duration('90m') > duration('1h')", json!(true)),
        ("timestamp('2020-01-02T03:04:05Z').getFullYear()", json!(2020)),
        ("type(self.a) == int", json!(true)),
        ("[1, 2] + [3]", json!([1, 2, 3])),
        ("{'a': 1}.a", json!(1)),
        ("self.?none.orValue('d')", json!("d")),
        ("self.?a.hasValue()", json!(true)),
        ("self.l[?7].hasValue()", json!(false)),
        ("quantity('1Gi').isGreaterThan(quantity('900Mi'))", json!(true)),
        ("isIP('::1') && ip('::1').family() == 6 && cidr('10.0.0.0/8').containsIP('10.1.2.3')", json!(true)),
        ("url('https://x:8/p?q=1').getPort()", json!("8")),
        ("semver('1.2.3').isLessThan(semver('1.10.0'))", json!(true)),
        ("format.dns1123Label().validate('A_').hasValue()", json!(true)),
        ("sets.contains([1, 2], [2])", json!(true)),
        ("cel.bind(x, 2, x * x)", json!(4)),
        ("string(1) + string(true)", json!("1true")),
        ("[3, 1, 3].distinct().sort()", json!([1, 3])),
        ("[[1], [2, 3]].flatten().reverse()", json!([3, 2, 1])),
        ("lists.range(4).slice(1, 3)", json!([1, 2])),
        ("[1, 2].first().optMap(x, x + 1).orValue(0)", json!(2)),
        ("[1].slice(0, 0).last().optMap(x, x + 1).orValue(7)", json!(7)),
        ("['bb', 'a'].sortBy(s, s.size())", json!(["a", "bb"])),
        ("sign(quantity('-1'))", json!(-1)),
        ("url('https://x/p q').getEscapedPath()", json!("/p%20q")),
        ("isURL('mailto:a@example.com') && !isURL('http://[::1')", json!(true)),
        ("int('5') + int(2.9)", json!(7)),
        ("b'abc'.size() == 3 && '\\u00e9'.size() == 1 && r'\\n'.size() == 2", json!(true)),
        ("0x1F == 31 && 2u == uint(2) && 1e3 == 1000.0", json!(true)),
        ("/* no comments of this kind */ 1", json!("error")),
    ] {
        let got = run(source, &this);
        if wanted == "error" {
            assert!(got.is_err(), "{source}");
        } else {
            assert_eq!(got, Ok(wanted), "{source}");
        }
    }
}

#[test]
fn a_list_in_place_of_a_text_cannot_be_read() {
    let field = |name: &str, ty| (name.to_owned(), (name.to_owned(), ty));
    let fields = [field("d", Type::String), field("n", Type::Int)].into_iter().collect();
    let ty = Type::Object(std::sync::Arc::new(types::ObjectType { name: "o".to_owned(), fields }));
    let mut environment = environment();
    environment.variables.insert("self".to_owned(), ty.clone());
    let this = json!({"d": [], "n": 1});
    for (source, reads) in [
        ("self.d == 'x'", true),
        ("has(self.d)", true),
        ("self == self", true),
        ("self.n == 1 || self.d == 'x'", false),
        ("self.n == 1", false),
    ] {
        let program = Program::compile(&environment, source).expect(source);
        let scope = Scope::new([("self", Value::of(&this, &ty))]);
        let failed = program.evaluate(&scope, &mut TOTAL_COST_MAX.clone()).map_err(|e| e.to_string()).err();
        assert_eq!(failed.as_deref(), reads.then_some(value::MISREAD), "{source}");
    }
}

#[test]
fn errors_are_upstreams() {
    for (source, wanted) in [
        ("self.none", "no such key: none"),
        ("[1][5]", "index out of bounds: 5"),
        ("1 / 0", "division by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("int('x')", "type conversion error from 'string' to 'int'"),
        ("timestamp('a' + 'b')", "type conversion error from 'string' to 'google.protobuf.Timestamp'"),
        ("dyn(null).x", "no such key: x"),
        ("string(dyn({'a': 1}))", "no such overload: string(map)"),
        ("[1, 2].slice(1, 3)", "cannot slice(1, 3), list is length 2"),
        ("[1, 2].transformMapEntry(i, v, {'a': v}).size()", "insert failed: key a already exists"),
        (
            "[1].transformMapEntry(i, v, 5)",
            "compilation failed: ERROR: <input>:1:22: found no matching overload for 'cel.@mapInsert' applied to '(map(dyn, dyn), int)'\n | [1].transformMapEntry(i, v, 5)\n | .....................^",
        ),
        (
            "[1].filter(x, x)",
            "compilation failed: ERROR: <input>:1:11: found no matching overload for '_?_:_' applied to '(int, list(int), list(int))'\n | [1].filter(x, x)\n | ..........^",
        ),
        (
            "[1].all(x, .x == 1)",
            "compilation failed: ERROR: <input>:1:13: undeclared reference to '.x' (in container '')\n | [1].all(x, .x == 1)\n | ............^",
        ),
        (
            ".golden(1)",
            "compilation failed: ERROR: <input>:1:8: undeclared reference to '.golden' (in container '')\n | .golden(1)\n | .......^",
        ),
        (
            "1 && true",
            "compilation failed: ERROR: <input>:1:1: expected type 'bool' but found 'int'\n | 1 && true\n | ^",
        ),
        (
            "golden(self.a)",
            "compilation failed: ERROR: <input>:1:7: undeclared reference to 'golden' (in container '')\n | golden(self.a)\n | ......^",
        ),
        (
            "x",
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'x' (in container '')\n | x\n | ^",
        ),
        (
            "Golden{a: x}",
            "compilation failed: ERROR: <input>:1:7: undeclared reference to 'Golden' (in container '')\n | Golden{a: x}\n | ......^",
        ),
        (
            "1 + 'a'",
            "compilation failed: ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^",
        ),
        (
            "'a'.size(1)",
            "compilation failed: ERROR: <input>:1:9: found no matching overload for 'size' applied to 'string.(int)'\n | 'a'.size(1)\n | ........^",
        ),
        (
            "self.",
            "compilation failed: ERROR: <input>:1:6: Syntax error: no viable alternative at input '.'\n | self.\n | .....^",
        ),
        (
            "'a",
            "compilation failed: ERROR: <input>:1:1: Syntax error: token recognition error at: ''a'\n | 'a\n | ^\nERROR: <input>:1:3: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | 'a\n | ..^",
        ),
        ("(1", "compilation failed: ERROR: <input>:1:3: Syntax error: missing ')' at '<EOF>'\n | (1\n | ..^"),
        (
            "'ä' == x",
            "compilation failed: ERROR: <input>:1:8: undeclared reference to 'x' (in container '')\n | 'ä' == x\n | .．.....^",
        ),
        (
            "has(self)",
            "compilation failed: ERROR: <input>:1:5: invalid argument to has() macro\n | has(self)\n | ....^",
        ),
        (
            "'a' == null",
            "compilation failed: ERROR: <input>:1:5: found no matching overload for '_==_' applied to '(string, null)'\n | 'a' == null\n | ....^",
        ),
        (
            "duration('x') > duration('1s')",
            "compilation failed: ERROR: <input>:1:10: invalid duration argument\n | duration('x') > duration('1s')\n | .........^",
        ),
        (
            "'a'.matches('[')",
            "compilation failed: ERROR: <input>:1:13: invalid matches argument\n | 'a'.matches('[')\n | ............^",
        ),
        (
            "[1, 'a']",
            "compilation failed: ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^",
        ),
        (
            "1 1",
            "compilation failed: ERROR: <input>:1:3: Syntax error: extraneous input '1' expecting <EOF>\n | 1 1\n | ..^",
        ),
    ] {
        assert_eq!(run(source, &json!({})), Err(wanted.to_owned()), "{source}");
    }
}

#[test]
fn an_evaluation_ends_when_its_budget_does() {
    let many: Vec<i64> = (0..1000).collect();
    let this = json!(many);
    let source = "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))";
    let program = Program::compile(&environment(), source).expect("compiles");
    let scope = Scope::new([("self", Value::of(&this, &eval::DYN))]);
    let mut budget = TOTAL_COST_MAX;
    assert_eq!(program.evaluate(&scope, &mut budget).map(|_| ()), Err(Failure::Budget));
    assert_eq!(budget, TOTAL_COST_MAX - CALL_COST_MAX);
}

/// What is as deep as it may be does not exhaust a thread's stack; what is deeper is refused.
#[test]
fn deep_expressions_are_compiled_or_refused() {
    let around = |before: &str, inner: &str, after: &str, count: usize| {
        format!("{}{inner}{}", before.repeat(count), after.repeat(count))
    };
    let chained = |terms: usize, levels: usize| {
        let before = format!("({}", "false || ".repeat(terms));
        around(&before, "true", ")", levels)
    };
    for (source, wanted) in [
        (around("1 + ", "1", "", 249) + " == 250", json!(true)),
        (around("true && ", "true", "", 12_000), json!(true)),
        (around("(", "1", ")", 249), json!(1)),
        (around("true ? 1 : ", "2", "", 249), json!(1)),
        (around("!(", "true", ")", 248), json!(true)),
        (around("[1].map(x, ", "1", ")[0]", 124), json!(1)),
        (chained(8, 240), json!(true)),
        (chained(32, 240), json!(true)),
    ] {
        assert_eq!(run(&source, &json!({})), Ok(wanted), "{source:.60}");
    }
    for deep in [around("(", "1", ")", 5000), around("1 + ", "1", "", 251), around("(1 + ", "1", ")", 125)] {
        let why = run(&deep, &json!({})).expect_err("is too deep");
        assert!(why.starts_with("compilation failed: ERROR: <input>:-1:0: "), "{why:.200}");
    }
}

proptest! {
    #[test]
    fn any_text_is_compiled_or_refused(source in "[-a-z0-9 .,()\\[\\]{}'?:|&!=<>+*/%\"]{0,40}") {
        if let Ok(program) = Program::compile(&environment(), &source) {
            let this = json!({"a": [1, "x", null]});
            let scope = Scope::new([("self", Value::of(&this, &eval::DYN))]);
            let mut budget = 10_000;
            let _ = program.evaluate(&scope, &mut budget);
        }
    }
}

#[test]
fn parts_of_objects_are_compared_by_what_tells_them_apart() {
    use crate::api::custom::schema::Schema;

    let schema = Schema::parse(&json!({"type": "object", "properties": {
        "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        "list": {"type": "array", "items": {"type": "string"}},
        // Expressions cannot reach some of these, and take others for absent.
        "object": {"type": "object", "properties": {
            "if": {"type": "string"}, "n": {"type": "string", "nullable": true},
            "any": {"x-kubernetes-preserve-unknown-fields": true}}},
    }}));
    let ty = types::of_schema(&schema, false, "object");
    let old = json!({"set": ["a", "b"], "map": [{"k": "a", "v": 1}, {"k": "b", "v": 2}], "list": ["a", "b"],
        "object": {"if": "x", "n": null, "any": {"x": 1}}});
    let new = json!({"set": ["b", "a"], "map": [{"k": "b", "v": 2}, {"k": "a", "v": 1}], "list": ["b", "a"],
        "object": {"if": "x", "n": null, "any": {"x": 1}}});
    let mut environment = Environment::default();
    for name in ["self", "oldSelf"] {
        environment.variables.insert(name.to_owned(), ty.clone());
    }
    for (rule, holds) in [
        ("self.set == oldSelf.set", true),
        ("self.map == oldSelf.map", true),
        ("self.list == oldSelf.list", false),
        ("self.object == oldSelf.object", true),
        ("self == oldSelf", false),
        ("self.set == ['a', 'b']", true),
        ("self.set + ['b', 'c'] == ['b', 'a', 'c']", true),
        ("(self.map + [self.map[0], oldSelf.map[0]]).size() == 2", true),
        ("self.list + ['b'] == ['b', 'a', 'b']", true),
        ("self.map != oldSelf.map.filter(e, e.k == 'a')", true),
    ] {
        let program = Program::compile(&environment, rule).expect("compiles");
        let scope = Scope::new([("self", Value::of(&new, &ty)), ("oldSelf", Value::of(&old, &ty))]);
        let value = program.evaluate(&scope, &mut TOTAL_COST_MAX.clone()).expect("has a value");
        assert_eq!(value.to_json(), Some(json!(holds)), "{rule}");
    }
}

#[test]
fn what_was_wrong_is_told_once_and_types_by_their_names() {
    let environment = Environment::default();
    for (source, wanted) in [
        ("nope.sign(1.0)", "1:1: undeclared reference to 'nope'"),
        ("nope.sum() + [1].sum('x')", "found no matching overload for 'sum' applied to 'list(int).(string)'"),
        ("nope.isSorted(1)", "found no matching overload for 'isSorted' applied to '!error!.(int)'"),
        ("type(1) == 'int'", "found no matching overload for '_==_' applied to '(type(int), string)'"),
        ("duration(5) == duration('5s')", "1:10: invalid duration argument"),
    ] {
        let why = Program::compile(&environment, source).err().unwrap_or_default();
        assert!(why.contains(wanted), "{source}: {why}");
    }
}

#[test]
fn a_list_stays_the_set_that_it_began_as() {
    let schema = crate::api::custom::schema::Schema::parse(&json!({"type": "object", "properties": {
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
    }}));
    let mut environment = Environment::default();
    let ty = types::of_schema(&schema, false, "object");
    environment.variables.insert("self".to_owned(), ty.clone());
    let program = Program::compile(&environment, "self.set + ['c'] == ['c', 'b', 'a']").expect("is good");
    let this = json!({"set": ["a", "b"]});
    let scope = Scope::new([("self", Value::of(&this, &ty))]);
    let value = program.evaluate(&scope, &mut TOTAL_COST_MAX.clone()).map_err(|e| e.to_string());
    assert_eq!(value.map(|v| v.to_json()), Ok(Some(json!(true))));
}

#[test]
fn what_nothing_is_of_is_found_out() {
    let ty = |source: &str| match Program::compile(&Environment::default(), source) {
        Ok(program) => program.ty.to_string(),
        Err(why) => {
            let said = why.split_once("<input>:").and_then(|(_, said)| said.lines().next());
            said.unwrap_or_default().to_owned()
        }
    };
    for (source, wanted) in [
        ("[].max()", "int"),
        ("[].sum()", "int"),
        ("[]", "list(dyn)"),
        ("{}", "map(dyn, dyn)"),
        ("[[], [1]]", "list(list(int))"),
        ("[] + ['a']", "list(string)"),
        ("optional.none().orValue(5)", "int"),
        ("optional.none()", "optional_type(dyn)"),
        ("[].first()", "optional_type(dyn)"),
        ("true ? [] : [1.5]", "list(double)"),
        ("[].map(x, x)", "list(dyn)"),
        ("dyn([]).max()", "dyn"),
        (
            "optional.none().orValue(5) == '5'",
            "1:28: found no matching overload for '_==_' applied to '(int, string)'",
        ),
        ("[[], [1]].max()", "1:14: found no matching overload for 'max' applied to 'list(list(int)).()'"),
        (
            "[{'a': 1}].sort()",
            "1:16: found no matching overload for 'sort' applied to 'list(map(string, int)).()'",
        ),
        ("[1, 'a'].sort()", "1:5: expected type 'int' but found 'string'"),
    ] {
        assert_eq!(ty(source), wanted, "{source}");
    }
    let run = |source: &str| run(source, &json!({})).expect_err(source);
    assert_eq!(run("[null].max()"), "no such overload: max(list)");
    assert_eq!(run("dyn(['a']).sum()"), "no such overload: sum(list)");
    assert_eq!(run("[].min()"), "min called on empty list");
}

#[test]
fn a_type_that_is_in_itself_at_many_places_is_looked_at_only_so_far() {
    let compiled = |source: &str| Program::compile(&Environment::default(), source).map(|p| p.ty.to_string());
    let within = |inner: String, of: &dyn Fn(usize) -> String| {
        (0..40).rev().fold(inner, |inner, i| format!("[{}].all(a{i}, {inner})", of(i)))
    };
    let known = within("a39 == a39".to_owned(), &|i| match i {
        0 => "{1: 1}".to_owned(),
        i => format!("{{a{0}: a{0}}}", i - 1),
    });
    assert_eq!(compiled(&known).as_deref(), Ok("bool"));
    let pair = "[{1: 1}].all(b0, [{1: 1}].all(c0, INNER))";
    let twice = (1..40).rev().fold("[b39, c39].size() == 2".to_owned(), |inner, i| {
        format!("[{{b{0}: b{0}}}].all(b{i}, [{{c{0}: c{0}}}].all(c{i}, {inner}))", i - 1)
    });
    assert_eq!(compiled(&pair.replace("INNER", &twice)).as_deref(), Ok("bool"));
    let terms: Vec<String> = (1..40).map(|i| format!("a{}[a{i}] == a{i}", i - 1)).collect();
    let unknown = within(terms.join(" && "), &|_| "{}".to_owned());
    assert_eq!(compiled(&unknown).as_deref(), Ok("bool"));
}
