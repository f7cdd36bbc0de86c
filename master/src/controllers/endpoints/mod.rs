//! Endpoints.
pub mod pods;
pub mod slices;
pub mod subsets;
