//! APIServices: which of them this server keeps for what it serves itself, and whether the others' servers are
//! there.
//!
//! - [`registration`]: one for every version of a group that definitions declare.
//! - [`availability`]: asking the others, and reading their documents; [`decide`]: what can be told without asking.

pub mod availability;
mod decide;
mod reading;
pub mod registration;

pub use availability::AvailabilityController;
pub use registration::RegistrationController;
