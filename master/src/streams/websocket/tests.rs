use super::*;

const V5: Dialect = Dialect { base64: false, version: 5 };
const V4: Dialect = Dialect { base64: false, version: 4 };
const TEXT: Dialect = Dialect { base64: true, version: 1 };

#[test]
fn messages_from_the_client_mean() {
    for (dialect, message, expected) in [
        (V5, &b""[..], Input::Nothing),
        (V5, b"\0", Input::Nothing),
        (V5, b"\0ls", Input::Stdin(Bytes::from_static(b"ls"))),
        (V5, b"\xff\0", Input::CloseStdin),
        (V5, b"\xff\x01", Input::Nothing),
        (V4, b"\xff\0", Input::Nothing),
        (V4, b"\x04{\"Width\":80,\"Height\":24}\n", Input::Resize { width: 80, height: 24 }),
        (V4, b"\x04{\"Width\":-1}", Input::Nothing),
        (TEXT, b"0bHM=", Input::Stdin(Bytes::from_static(b"ls"))),
        (TEXT, b"0!", Input::Nothing),
    ] {
        assert_eq!(read(dialect, Bytes::from_static(message)), expected, "{message:?}");
    }
}

#[test]
fn the_first_offer_that_is_known_is_chosen() {
    let offer = |names: &[&str]| choose(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
    assert_eq!(offer(&["v9", "v5.channel.k8s.io", "v4.channel.k8s.io"]), Some(("v5.channel.k8s.io", V5)));
    assert_eq!(offer(&["base64.channel.k8s.io"]), Some(("base64.channel.k8s.io", TEXT)));
    assert_eq!(offer(&[]).unwrap().0, "");
    assert_eq!(offer(&["nothing"]), None);
}

#[test]
fn old_dialects_end_with_text() {
    let ok = Bytes::from(protocol::streams::exit_status(0).to_string());
    let bad = Bytes::from(protocol::streams::failure_status("no").to_string());
    assert_eq!(ending(true, ok.clone()), Some(ok.clone()));
    assert_eq!(ending(false, ok), None);
    assert_eq!(ending(false, bad), Some(Bytes::from_static(b"Internal error occurred: no")));
}
