//! The start: ready at once, whoever else is slow or gone.

use crate::{
    program::Program,
    service::{Service, Setup},
};
use k8sops_testing::{
    scripted::{Gate, ScriptedModel},
    testbed::free_port,
    tools::Counting,
};

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_while_an_mcp_server_takes_for_ever_to_begin() {
    let gate = Gate::new();
    let servers = vec![Counting::new().server_behind(gate.clone())];
    let service = Service::start(Setup { model: Some(ScriptedModel::new([])), servers, ..Setup::default() }).await;
    // The server was asked and has not answered, which it does when it is let.
    gate.arrived().await;
    assert_eq!(service.get("/readyz").await["status"], "ok");
    assert_eq!(service.get("/v1/info").await["mcp_connected"], false);
    gate.open();
    service.connected().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_while_provider_collector_and_mcp_servers_are_gone() {
    let nobody = || format!("http://127.0.0.1:{}", free_port());
    let (provider, collector, mcp) = (nobody(), nobody(), format!("{}/mcp", nobody()));
    let env = [
        ("LLM_PROVIDER", "openai"),
        ("LLM_MODEL", "m"),
        ("OPENAI_BASE_URL", &*provider),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector),
        ("MCP_TRANSPORT", "http"),
        ("MCP_SERVER_URL", &*mcp),
    ];
    let program = Program::start("", &env).await;
    assert_eq!(program.get("/readyz").await["status"], "ok");
    let session = program.session().await;
    assert_eq!(program.get(&session).await["status"]["mcp_connected"], false);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_may_be_kept_in_a_folder_that_is_named_from_here() {
    for folder in [".", "data", "deep/data"] {
        let env = [("MEMORY_BACKEND", "filesystem"), ("MEMORY_FILESYSTEM_PATH", folder)];
        let program = Program::start("", &env).await;
        program.session().await;
        let (_, dir) = program.stop().await;
        assert!(dir.path().join(folder).join("sessions.jsonl").exists(), "{folder}");
    }
}
