//! The `ifswarm` command.

fn main() {}
