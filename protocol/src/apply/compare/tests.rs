use proptest::prelude::*;

use super::*;
use crate::apply::samples::Choices;
use crate::apply::shape::{self, Scalar};
use crate::apply::{Member, Table};

/// A shape that is walked to its leaves, whatever is equal.
#[derive(Clone, Copy)]
struct Walked(Table);

impl<'s> Shape<'s> for Walked {
    fn scalar(self) -> Option<Scalar> {
        self.0.scalar()
    }

    fn list(self) -> Option<List<'s, Self>> {
        let list: List<'s, Table> = self.0.list()?;
        Some(List { kind: list.kind, keys: list.keys, element: Walked(list.element) })
    }

    fn map(self) -> Option<shape::Map> {
        self.0.map()
    }

    fn field(self, name: &str) -> Option<Member<'s, Self>> {
        let member: Member<'s, Table> = self.0.field(name)?;
        Some(Member { shape: Walked(member.shape), declared: member.declared, default: member.default })
    }
}

proptest! {
    #[test]
    fn what_is_equal_needs_no_walk(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        let mut choices = Choices(&bytes);
        let definition = choices.kind();
        let old = choices.object(definition);
        let new = choices.changed(definition, &old);
        let shape = Table::of(definition);
        prop_assert_eq!(compare(shape, &old, &new).ok(), compare(Walked(shape), &old, &new).ok());
        prop_assert_eq!(compare(shape, &old, &old).ok(), Some(Comparison::default()));
    }
}
