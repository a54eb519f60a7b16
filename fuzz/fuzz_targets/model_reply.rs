//! Replies of model providers, in all protocols.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| k8sops_models::fuzzing::check_reply(bytes));
