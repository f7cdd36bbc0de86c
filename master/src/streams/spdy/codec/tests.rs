use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn headers() -> impl Strategy<Value = Headers> {
    vec(("[a-z:-]{1,12}", "[ -~]{0,40}"), 0..8)
}

fn frame() -> impl Strategy<Value = Frame> {
    let stream = 0..=STREAM_ID;
    prop_oneof![
        (stream.clone(), stream.clone(), 0u8..8, any::<bool>(), headers()).prop_map(
            |(stream, associated, priority, fin, headers)| Frame::SynStream {
                stream,
                associated,
                priority,
                fin,
                headers
            }
        ),
        (stream.clone(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::SynReply {
            stream,
            fin,
            headers
        }),
        (stream.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::RstStream { stream, status }),
        vec((0u32..0x0100_0000, any::<u32>()), 0..9).prop_map(Frame::Settings),
        any::<u32>().prop_map(Frame::Ping),
        (stream.clone(), any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
        (stream.clone(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::Headers {
            stream,
            fin,
            headers
        }),
        (stream.clone(), 0..=STREAM_ID).prop_map(|(stream, delta)| Frame::WindowUpdate { stream, delta }),
        (stream, any::<bool>(), vec(any::<u8>(), 0..200)).prop_map(|(stream, fin, data)| Frame::Data {
            stream,
            fin,
            data: data.into()
        }),
    ]
}

fn drain(decoder: &mut Decoder) -> Vec<Frame> {
    std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
}

proptest! {
    #[test]
    fn frames_survive_the_wire_in_any_pieces(frames in vec(frame(), 0..12), piece in 1usize..50) {
        let mut encoder = Encoder::default();
        let bytes: Vec<u8> = frames.iter().flat_map(|f| encoder.encode(f).unwrap()).collect();
        let mut decoder = Decoder::default();
        let mut read = Vec::new();
        for piece in bytes.chunks(piece) {
            decoder.feed(piece);
            read.extend(drain(&mut decoder));
        }
        prop_assert_eq!(read, frames);
    }

    #[test]
    fn random_bytes_never_panic(kind in 0u8..11, body in vec(any::<u8>(), 0..400)) {
        // A right beginning, so that the bytes get as far as the parsers.
        let mut bytes = vec![0x80, 3, 0, kind, 0, 0, (body.len() >> 8) as u8, body.len() as u8];
        bytes.extend(&body);
        for input in [&bytes, &body] {
            let mut decoder = Decoder::default();
            decoder.feed(input);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }
}

#[test]
fn long_frames_are_refused_before_they_are_read() {
    let mut decoder = Decoder::default();
    decoder.feed(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff]);
    assert_eq!(decoder.next_frame(), Err(CodecError::TooLong(0xff_ffff)));
}

#[test]
fn a_small_block_that_unpacks_to_a_big_one_is_refused() {
    let bomb = Frame::Headers { stream: 1, fin: false, headers: vec![("a".into(), "b".repeat(1 << 20))] };
    let mut decoder = Decoder::default();
    decoder.feed(&Encoder::default().encode(&bomb).unwrap());
    assert_eq!(decoder.next_frame(), Err(CodecError::HeaderBlock));
}

#[test]
fn another_version_is_refused() {
    let mut decoder = Decoder::default();
    decoder.feed(&[0x80, 2, 0, 6, 0, 0, 0, 4]);
    assert_eq!(decoder.next_frame(), Err(CodecError::Version(2)));
}

/// Its checksum, which the zlib stream of every peer names.
#[test]
fn the_dictionary_is_the_protocols() {
    let mut adler = (1u32, 0u32);
    for &byte in DICTIONARY {
        adler.0 = (adler.0 + u32::from(byte)) % 65_521;
        adler.1 = (adler.1 + adler.0) % 65_521;
    }
    assert_eq!(adler.1 << 16 | adler.0, 0xe3c6_a7c2);
}
