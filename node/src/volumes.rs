//! Pod volumes on the host.
