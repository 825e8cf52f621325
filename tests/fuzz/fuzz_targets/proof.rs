//! cargo-fuzz: the target `proof` of `targets`.
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::named("proof")(bytes));
