//! Server-side apply: live objects, configurations and owners of all sorts.
#![no_main]

#[path = "../../../protocol/tests/anything/applied.rs"]
mod applied;

use arbitrary::Unstructured;
use fuzz::{anything, definition, object};
use libfuzzer_sys::fuzz_target;
use protocol::apply::Table;

fuzz_target!(|bytes: &[u8]| {
    let _ = run(&mut Unstructured::new(bytes));
});

fn run(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let kind = definition(u)?;
    let (live, config) = (object(u, kind, 0)?, object(u, kind, 0)?);
    let entries = if u.ratio(1, 2)? {
        protocol::apply::fields::fields(Table::of(kind), &object(u, kind, 0)?).encode()
    } else {
        anything(u, 0)?
    };
    applied::everywhere(kind, &live, &config, &entries);
    Ok(())
}
