//! node
pub mod link;
