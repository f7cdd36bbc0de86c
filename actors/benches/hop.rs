//! The cost of one hop (tell, ask), with metrics and trace on, over raw actix. Ratios hold within one run.

fn main() {}
