//! node
pub mod dns;
pub mod link;
