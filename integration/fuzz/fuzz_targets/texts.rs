//! Texts: selectors, quantities, field paths, and expressions of the Common Expression Language.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::quantity::Quantity;
use protocol::selector::FieldSelector;
use protocol::Selector;

fuzz_target!(|text: &str| {
    let _ = Selector::parse(text);
    let _ = FieldSelector::parse(text);
    let _ = Quantity::written(text, true);
    let _ = text.parse::<Quantity>();
    let _ = protocol::apply::Element::parse(text);
    // Whoever reads an expression and whoever tells what is wrong with it have to agree on whether anything is.
    let parsed = master::api::cel::parse::parse(text, true);
    let problems = master::api::cel::syntax::problems(text, true);
    assert_eq!(parsed.is_ok(), problems.is_empty());
    let _ = master::api::cel::problem::render(text, &problems);
});
