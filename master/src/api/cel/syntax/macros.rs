//! Calls that are macros, and what their arguments have to be.

use super::super::problem::Place;
use super::visit::{Part, Shape, Visitor, computed};

/// Names that no variable of a macro may have: what is made of a macro has variables of these names.
const TAKEN: [&str; 2] = ["@result", "__result__"];

/// What is wrong with an argument.
type Wrong = (Place, String);

/// What a call becomes; tells what is wrong with it if it is a macro.
pub fn expand(
    visitor: &mut Visitor<'_, '_>,
    binds: bool,
    place: Place,
    name: &str,
    target: Option<&Part>,
    arguments: &[Part],
) -> Part {
    // What is made of a macro has its place, and what is nowhere is put before everything.
    let made = place.max(Place::Before);
    let checked = match (name, target, arguments) {
        ("has", None, [argument]) => match argument.shape {
            Shape::Select => return Part { shape: Shape::Select, place: made },
            _ => Err((argument.place, "invalid argument to has() macro".to_owned())),
        },
        ("all" | "exists" | "exists_one", Some(_), [variable, _]) => {
            free_name(variable, "argument must be a simple name")
        }
        ("map", Some(_), [variable, _] | [variable, _, _]) | ("filter", Some(_), [variable, _]) => {
            free_name(variable, "argument is not an identifier")
        }
        ("all" | "exists" | "exists_one" | "existsOne", Some(_), [first, second, _])
        | (
            "transformList" | "transformMap" | "transformMapEntry",
            Some(_),
            [first, second, _] | [first, second, _, _],
        ) => free_names(first, second),
        ("sortBy", Some(target), [variable, _]) => match target.shape {
            Shape::Unknown | Shape::Value => Err((
                target.place,
                "sortBy can only be applied to a list, identifier, comprehension, call or select expression"
                    .to_owned(),
            )),
            _ => free_name(variable, "argument is not an identifier"),
        },
        ("optMap" | "optFlatMap", Some(_), [variable, _]) => {
            simple(variable, &format!("{name}() variable name must be a simple identifier")).map(|_| ())
        }
        ("bind", Some(Part { shape: Shape::Ident(namespace), .. }), [variable, _, _])
            if binds && namespace == "cel" =>
        {
            simple(variable, "cel.bind() variable names must be simple identifiers").map(|_| ())
        }
        _ => return computed(place),
    };
    match checked {
        Ok(()) => computed(made),
        Err((place, message)) => visitor.report(place, message),
    }
}

fn simple<'a>(part: &'a Part, wrong: &str) -> Result<&'a str, Wrong> {
    match &part.shape {
        Shape::Ident(name) => Ok(name),
        _ => Err((part.place, wrong.to_owned())),
    }
}

fn not_taken(part: &Part, name: &str) -> Result<(), Wrong> {
    if TAKEN.contains(&name) {
        return Err((part.place, "iteration variable overwrites accumulator variable".to_owned()));
    }
    Ok(())
}

fn free_name(part: &Part, wrong: &str) -> Result<(), Wrong> {
    not_taken(part, simple(part, wrong)?)
}

fn free_names(first: &Part, second: &Part) -> Result<(), Wrong> {
    let wrong = "argument must be a simple name";
    let (one, other) = (simple(first, wrong)?, simple(second, wrong)?);
    if one == other {
        return Err((second.place, format!("duplicate variable name: {one}")));
    }
    not_taken(first, one)?;
    not_taken(second, other)
}
