//! Startup: the service is ready immediately even if other services are slow or unavailable, and errors are clear.

use crate::{
    program::{TestProgram, k8sops_command},
    service::{ServiceSetup, TestService},
};
use k8sops_testing::{
    TEST_TIMEOUT,
    child_program::ChildProgram,
    counting_server::CountingMcpServer,
    scripted_model::{ScriptedModel, TestGate},
    testbed::free_port,
};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn service_is_ready_while_an_mcp_server_starts() {
    let gate = TestGate::new();
    let servers = vec![CountingMcpServer::new().connector_behind(gate.clone())];
    let service =
        TestService::start(ServiceSetup { model: Some(ScriptedModel::new([])), servers, ..ServiceSetup::default() })
            .await;
    // The server has received the request and answers only after the gate opens.
    gate.arrived().await;
    assert_eq!(service.get("/readyz").await["status"], "ok");
    assert_eq!(service.get("/v1/info").await["mcp_connected"], false);
    gate.open();
    service.wait_for_mcp_servers().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_is_ready_without_provider_collector_and_mcp_server() {
    let unused_url = || format!("http://127.0.0.1:{}", free_port());
    let provider = unused_url();
    let collector = unused_url();
    let mcp = format!("{}/mcp", unused_url());
    let env = [
        ("LLM_PROVIDER", "openai"),
        ("LLM_MODEL", "m"),
        ("OPENAI_BASE_URL", &*provider),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector),
        ("MCP_TRANSPORT", "http"),
        ("MCP_SERVER_URL", &*mcp),
    ];
    let program = TestProgram::start("", &env).await;
    assert_eq!(program.get("/readyz").await["status"], "ok");
    let session = program.create_session().await;
    assert_eq!(program.get(&session).await["status"]["mcp_connected"], false);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_folder_may_be_a_relative_path() {
    for folder in [".", "data", "deep/data"] {
        let env = [("MEMORY_BACKEND", "filesystem"), ("MEMORY_FILESYSTEM_PATH", folder)];
        let program = TestProgram::start("", &env).await;
        program.create_session().await;
        let (_, dir) = program.stop().await;
        assert!(dir.path().join(folder).join("sessions.jsonl").exists(), "{folder}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_setting_is_one_line_with_the_allowed_values() {
    let output = k8sops_command().arg("serve").env("MEMORY_BACKEND", "floppy").output().await.unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    let line = errors.lines().find(|line| line.contains("MEMORY_BACKEND")).unwrap_or_else(|| panic!("{errors}"));
    assert!(line.contains("floppy") && line.contains("filesystem"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_data_folder_is_named_with_its_variable() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [file.to_str().unwrap(), "/proc/k8sops", "/proc"] {
        let mut command = k8sops_command();
        command.arg("serve").env("K8SOPS_PORT", "0").env("MEMORY_FILESYSTEM_PATH", path);
        let output = timeout(TEST_TIMEOUT, command.output()).await.expect("the program ends").unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        for word in [path, "MEMORY_FILESYSTEM_PATH", "a directory that this user may write to"] {
            assert!(errors.contains(word), "{word} is not in: {errors}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exposed_service_requires_authentication() {
    for arguments in [vec!["serve"], vec!["demo", "--host", "0.0.0.0"]] {
        let data = tempfile::tempdir().unwrap();
        let mut command = k8sops_command();
        command.args(&arguments).env("K8SOPS_PORT", "0").env("K8SOPS_HOST", "0.0.0.0");
        command.env("MEMORY_FILESYSTEM_PATH", data.path());
        let output = timeout(TEST_TIMEOUT, command.output()).await.expect("the program ends").unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
        let errors_about_host =
            errors.lines().filter(|line| line.contains("0.0.0.0") && !line.contains("warning")).count();
        assert_eq!(errors_about_host, 1, "{arguments:?}: {errors}");
    }
    for (host, insecure, warns) in [("0.0.0.0", "true", 1), ("127.0.0.1", "true", 0), ("localhost", "false", 0)] {
        let data = tempfile::tempdir().unwrap();
        let mut command = k8sops_command();
        command.arg("serve").env("K8SOPS_PORT", "0").env("K8SOPS_HOST", host).env("AUTH_ALLOW_INSECURE", insecure);
        command.env("MEMORY_FILESYSTEM_PATH", data.path());
        let mut program = ChildProgram::start(&mut command).await;
        program.stop().await;
        let mut warnings = program.stderr.lines();
        warnings.retain(|line| line.contains("AUTHENTICATION IS OFF"));
        assert_eq!(warnings.len(), warns, "{host}: {warnings:?}");
        assert!(warnings.iter().all(|line| line.contains(host) && line.contains("K8SOPS_HOST")), "{warnings:?}");
    }
}
