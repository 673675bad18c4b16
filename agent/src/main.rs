//! `kernspan`: arguments → configuration → app → exit code.

fn main() {}
