//! Frames that a client sends over a WebSocket.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| k8sops::api::check_client_frame(text));
