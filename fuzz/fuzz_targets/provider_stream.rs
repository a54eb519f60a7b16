//! Streams of model providers: server-sent events, and JSON lines.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| k8sops_models::fuzzing::check_stream(bytes));
