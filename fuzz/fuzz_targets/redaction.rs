//! Outputs of tools, in which secrets are redacted.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| k8sops_tools::fuzzing::check_redaction(text));
