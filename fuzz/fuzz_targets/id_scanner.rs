//! JSON-RPC messages of MCP servers that cannot be parsed as a whole.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| k8sops_mcp::fuzzing::check_id_scanner(bytes));
