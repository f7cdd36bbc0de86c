//! Desired pods to running containers.

pub mod config;
pub mod streams;

pub use config::{KubeletConfig, ServerConfig};
