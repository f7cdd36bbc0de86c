use proptest::prelude::*;

use super::*;

#[test]
fn quantities_print_in_upstreams_canonical_form() {
    for (text, canonical) in [
        ("0", "0"),
        ("0.5", "500m"),
        ("1", "1"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("1Ki", "1Ki"),
        ("1024Ki", "1Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("1e3", "1e3"),
        ("12E6", "12e6"),
        ("1E", "1E"),
        ("-1", "-1"),
        ("+2", "2"),
        (".5", "500m"),
        ("1.", "1"),
        ("100000000k", "100G"),
        ("0.0000000001", "1n"),
        ("64Mi", "64Mi"),
        ("128974848", "128974848"),
        ("129e6", "129e6"),
        ("123Mi", "123Mi"),
        // A number of no digits is none, unless something else is there before the suffix.
        (".", "0"),
        ("-", "0"),
        ("+.Ki", "0"),
    ] {
        assert_eq!(text.parse::<Quantity>().map(|q| q.to_string()).as_deref(), Ok(canonical), "{text}");
    }
}

#[test]
fn what_is_not_a_quantity_is_refused() {
    for text in ["", "x", "1 Gi", "1.1.1", "-x", "1GiB", "Ki"] {
        assert_eq!(text.parse::<Quantity>(), Err(QuantityError::Form), "{text}");
    }
    for text in ["1KK", "--1", "-.-"] {
        assert_eq!(text.parse::<Quantity>(), Err(QuantityError::Suffix), "{text}");
    }
}

#[test]
fn values_round_up() {
    let q = |t: &str| t.parse::<Quantity>().expect(t);
    assert_eq!(q("1m").units(), 1);
    assert_eq!(q("1001u").milli(), 2);
    assert_eq!(q("1Gi").units(), 1 << 30);
    assert_eq!(q("9E").units(), 9_000_000_000_000_000_000);
    assert_eq!(q("100E").units(), i64::MAX);
    assert!(q("1Gi") > q("1G"));
    assert_eq!((q("250m") + q("0.75")).to_string(), "1");
    assert_eq!((Quantity::default() + q("1Gi") - q("512Mi")).to_string(), "512Mi");
    for (text, kept, coarse) in [
        ("1E3", "1E3", "1E3"),
        ("+1", "+1", "+1"),
        ("1.", "1.", "1."),
        ("01", "01", "01"),
        ("1.500", "1.500", "1.500"),
        (" 1 ", "1", "1"),
        ("1.5", "1500m", "1500m"),
        ("1000m", "1", "1"),
        ("1024Ki", "1Mi", "1Mi"),
        ("+1Ki", "+1Ki", "+1Ki"),
        ("0.10", "100m", "100m"),
        ("1e-9", "1e-9", "1e-3"),
        ("-1500u", "-1500u", "-2m"),
        ("-0", "0", "0"),
        ("1e20", "100e18", "100e18"),
        ("9223372036854775808", "9223372036854775808", "9223372036854775808"),
        ("16Ei", "9223372036854775807", "9223372036854775807"),
        ("9223372036854775807E", "9223372036854775807E", "9223372036854775807E"),
        (
            "-170141183460469231731687303715884105729",
            "-170141183460469231731687303715884105729",
            "-170141183460469231731687303715884105729",
        ),
        ("1.8e38", "180e36", "180e36"),
        ("1e-30", "1e-9", "1e-3"),
        ("1.1234567890123E", "1123456789012300k", "1123456789012300k"),
        ("1000000000000000000000", "1", "1"),
    ] {
        assert_eq!(Quantity::written(text, false).as_deref(), Ok(kept), "{text}");
        assert_eq!(Quantity::written(text, true).as_deref(), Ok(coarse), "{text}");
    }
    for (fine, coarse) in
        [("1n", "1m"), ("-1500u", "-2m"), ("2m", "2m"), ("1Gi", "1Gi"), ("1.5Ki", "1536"), ("0", "0")]
    {
        assert_eq!(q(fine).in_milli().to_string(), coarse, "{fine}");
    }
}

proptest! {
    #[test]
    fn the_canonical_form_means_the_same(nano in -1_000_000_000_000_000_000_000_i128..1_000_000_000_000_000_000_000,
                                         format in prop_oneof![Just(Format::DecimalSi), Just(Format::BinarySi), Just(Format::DecimalExponent)]) {
        let quantity = Quantity { nano: Wide::of(nano), format };
        let text = quantity.to_string();
        let back: Quantity = text.parse().expect("prints what it can read");
        prop_assert_eq!(back, quantity);
        prop_assert_eq!(back.to_string(), text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        if let Ok(quantity) = text.parse::<Quantity>() {
            prop_assert_eq!(quantity.to_string().parse::<Quantity>(), Ok(quantity));
        }
    }

    #[test]
    fn order_is_that_of_the_numbers(a in -1_000_000_i64..1_000_000, b in -1_000_000_i64..1_000_000) {
        prop_assert_eq!(Quantity::from_milli(a).cmp(&Quantity::from_milli(b)), a.cmp(&b));
        prop_assert_eq!((Quantity::from_milli(a) + Quantity::from_milli(b)).milli(), a + b);
    }
}

#[test]
fn large_binary_amounts_do_not_pass_for_whole() {
    for (text, passes) in [
        ("1", true),
        ("1500m", false),
        ("8Pi", true),
        ("1Ei", false),
        ("4Ei", true),
        ("8Ei", true),
        ("1E", true),
        ("9223372036854775807", true),
        ("9223372036854775807E", false),
        ("1e60", true),
        ("123456789012345678901234567890", false),
        ("1180591620717411303424", true),
    ] {
        let amount: Quantity = text.parse().expect("is a quantity");
        assert_eq!(amount.passes_for_whole(), passes, "{text}");
    }
}
