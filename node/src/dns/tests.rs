//! Tests of the DNS.
