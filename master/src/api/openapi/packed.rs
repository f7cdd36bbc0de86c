//! A document that is kept compressed: most clients take it so, and many megabytes would lie in memory for the few
//! that do not.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// A document. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Packed {
    gzip: Bytes,
    length: usize,
    digest: [u8; 32],
}

impl Packed {
    /// Packs a document.
    pub fn of(document: &[u8]) -> Self {
        Packed { gzip: gzip(document), length: document.len(), digest: Sha256::digest(document).into() }
    }

    /// The same document in another form: what tells documents apart stays as it is.
    pub fn as_form(&self, document: &[u8]) -> Self {
        Packed { gzip: gzip(document), length: document.len(), ..*self }
    }

    /// The document as gzip writes it.
    pub fn gzip(&self) -> Bytes {
        self.gzip.clone()
    }

    /// The document itself, made anew at each call.
    pub fn plain(&self) -> Bytes {
        let mut document = Vec::with_capacity(self.length);
        // What was written above can be read.
        let _ = GzDecoder::new(&*self.gzip).read_to_end(&mut document);
        Bytes::from(document)
    }

    /// The document's SHA-256, in capital hexadecimal digits.
    pub fn digest(&self) -> String {
        self.digest.iter().map(|b| format!("{b:02X}")).collect()
    }
}

fn gzip(document: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    Bytes::from(encoder.write_all(document).and_then(|()| encoder.finish()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again() {
        for document in [&b""[..], b"{}", &[b'x'; 100_000]] {
            let packed = Packed::of(document);
            assert_eq!(packed.plain(), document);
            let mut read = Vec::new();
            GzDecoder::new(&*packed.gzip()).read_to_end(&mut read).expect("gzip");
            assert_eq!(read, document);
            assert_eq!(packed.digest().len(), 64);
        }
        assert!(Packed::of(&[b'x'; 100_000]).gzip().len() < 1000);
    }
}
