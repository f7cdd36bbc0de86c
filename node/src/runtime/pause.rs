//! The pause image: one static program (node/pause/pause.rs), which the node carries in itself and puts
//! into the engine without a registry or a Dockerfile.

/// Name of the pause image that this program carries.
pub const IMAGE: &str = "troupe/pause:1";

/// The program, compiled by node/build.rs.
static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// Size of a tar record.
const BLOCK: usize = 512;

/// The image's root file system as a tar archive.
pub fn archive() -> Vec<u8> {
    archive_of(&[("pause", PROGRAM)])
}

/// A tar archive of executable files: what an image built from scratch needs and no more.
pub fn archive_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        let mut header = [0u8; BLOCK];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, b"0000755\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", content.len()).as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, b"0");
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}
