//! Deployments.
pub mod decide;
pub mod hash;
pub mod recreate;
pub mod revision;
pub mod rolling;
pub mod scale;
pub mod status;
