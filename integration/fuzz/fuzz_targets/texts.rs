//! Texts: selectors, quantities, field paths, and expressions of the Common Expression Language.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::quantity::Quantity;
use protocol::selector::FieldSelector;
use protocol::Selector;

fuzz_target!(|text: &str| {
    let _ = Selector::parse(text);
    let _ = FieldSelector::parse(text);
    let _ = Quantity::canonical(text);
    let _ = text.parse::<Quantity>();
    let _ = protocol::apply::Element::parse(text);
    if let Err(problems) = master::api::cel::parse::parse(text) {
        let _ = master::api::cel::parse::render(text, &problems);
    }
});
