//! Tools that return far too much.

use super::mib;
use crate::support::{BenchClient, BenchProgram, ScriptedUpstream};

pub(super) async fn print() {
    println!("\noutputs: one turn whose tool returns too much");
    // What must be seen of it, and what must not.
    for (tool, seen, hidden) in [
        ("pods", "CrashLoopBackOff", "fieldsV1"),
        ("secrets", "[secret:password:", "dmFsdWUtb2Ytc2Vjcm"),
        ("log", "ERROR payment 4711", "nothing is hidden"),
    ] {
        let upstream = ScriptedUpstream::start_with_tool_call(tool, 3).await;
        let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testbed/large_outputs.py");
        let python = std::env::var("K8SOPS_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
        let settings = [("MCP_SERVER_COMMAND", &*python), ("MCP_SERVER_ARGS", server)];
        let service = BenchProgram::start(&upstream.url(), &settings).await;
        let client = BenchClient::new();
        client.wait_for_mcp_servers(&service.url).await;
        let before = service.resident_memory();
        let session = client.create_session(&service.url).await;
        let cpu = service.cpu_time();
        client.turn(&session, "go").await;
        let cpu = service.cpu_time().saturating_sub(cpu);
        let end = client.tool_end(&session).await;
        let content = end["content"].as_str().unwrap_or_default();
        assert!(content.contains(seen) && !content.contains(hidden), "{tool}: {end}");
        println!(
            "  {tool:<8} {:6.1} MB in, {:5.1} KB to the model; {:5.2} s CPU; {:5.1} MiB before, {:6.1} MiB at the peak",
            end["bytes"].as_f64().unwrap_or(0.0) / 1e6,
            content.len() as f64 / 1e3,
            cpu.as_secs_f64(),
            mib(before),
            mib(service.peak_memory()),
        );
    }
}
