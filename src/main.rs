//! Postern: the command line program. Everything is in the library.

fn main() {}
