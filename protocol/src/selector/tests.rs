use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn label_selectors_match_as_upstream() {
    let web = labels(&[("app", "web"), ("tier", "front"), ("n", "5")]);
    for (text, expected) in [
        ("", true),
        ("app=web", true),
        ("app==web,tier!=back", true),
        ("app!=web", false),
        ("missing!=x", true),
        ("app in (web, api)", true),
        ("app notin (web)", false),
        ("missing notin (a)", true),
        ("app", true),
        ("!app", false),
        ("!missing , tier", true),
        ("n>4", true),
        ("n<5", false),
        ("app=", false),
        ("in in (in)", false),
    ] {
        assert_eq!(Selector::parse(text).expect(text).matches(&web), expected, "{text}");
    }
}

#[test]
fn label_selector_errors_are_upstreams() {
    for (text, message) in [
        (
            "n>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
        ("app=a,", "found '', expected: identifier after ','"),
        ("app=a b", "found 'b', expected: ',' or 'end of string'"),
        ("exists(app)", "unable to parse requirement: found '(', expected: in, notin, =, ==, !=, gt, lt"),
        ("(app=a)", "found '(', expected: !, identifier, or 'end of string'"),
        ("app===a", "unable to parse requirement: found '=', expected: identifier"),
    ] {
        assert_eq!(Selector::parse(text).expect_err(text).0, message);
    }
}

#[test]
fn selectors_print_in_the_canonical_form() {
    let selector = Selector::parse("tier in (b,a),app=web,!old,x notin (y)").expect("parses");
    assert_eq!(selector.to_string(), "app=web,!old,tier in (a,b),x notin (y)");
    let again = Selector::parse("a in (b),c!=d,e==f").expect("parses");
    assert_eq!(again.to_string(), "a in (b),c!=d,e=f");
    assert!(!Selector::nothing().matches(&labels(&[])));
    assert!(Selector::from_optional(None).expect("nothing").is_nothing());
}

#[test]
fn field_selectors_match_and_fail_as_upstream() {
    let selector = FieldSelector::parse("status.phase!=Failed,spec.nodeName=n1").expect("parses");
    let get = |field: &str| if field == "spec.nodeName" { "n1" } else { "Running" };
    assert!(selector.matches(get));
    assert_eq!(selector.required("spec.nodeName"), Some("n1"));
    assert_eq!(selector.required("status.phase"), None);
    for (text, message) in [
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        ("metadata.name=\\x", "invalid field selector: invalid escape sequence: \\x"),
    ] {
        assert_eq!(FieldSelector::parse(text).expect_err(text).0, message);
    }
    assert!(FieldSelector::parse("==,!=").expect("nothing").is_everything());
    assert_eq!(FieldSelector::parse("a=x\\,y").expect("escaped").requirements[0].value, "x,y");
}

#[test]
fn a_prefix_too_long_may_be_no_domain_besides() {
    let labels = ["p".repeat(63), "p".repeat(63), "p".repeat(63), "p".repeat(61)].join(".");
    assert_eq!(labels.len(), 253);
    let wrong = |prefix: &str| qualified_name_error(&format!("{prefix}/x")).len();
    assert_eq!((wrong(&labels), wrong(&format!("{labels}p")), wrong(&format!("{labels}."))), (0, 1, 2));
}
