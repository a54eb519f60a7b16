//! Clients by others over the MCP door: each runs turns against the demo.

use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    clients::run_in_folder,
    demo::start_demo,
    door_clients::{CLIENTS, run_with_packages},
    identity::start_issuer,
    service::{ServiceSetup, TestService},
};
use k8sops_testing::{scripted_model::ScriptedModel, testbed};

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_asks_and_approves_in_a_form() {
    let (demo, folder) = (start_demo().await, TempDir::new().unwrap());
    let mut client = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
    client.arg(format!("{CLIENTS}/mcp_turn.py")).args(["http", &demo.url]);
    assert_eq!(run_in_folder(&mut client, folder.path()).await.trim(), "done");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_starts_the_server_itself() {
    let (demo, folder) = (start_demo().await, TempDir::new().unwrap());
    let mut client = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
    client.arg(format!("{CLIENTS}/mcp_turn.py")).args([
        "stdio",
        env!("CARGO_BIN_EXE_k8sops"),
        "mcp",
        "--url",
        &demo.url,
    ]);
    let said = run_in_folder(&mut client, folder.path()).await;
    assert_eq!(said.trim(), "done");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn typescript_sdk_asks_and_approves_in_both_eras() {
    let demo = start_demo().await;
    for era in ["legacy", "2026-07-28"] {
        assert_eq!(run_with_packages("mcp_turn.mjs", &[&demo.url, era]).await.trim(), "done", "{era}");
    }
}

/// The scenarios that must fail are listed with their reasons in `tests/clients/mcp_conformance.yaml`.
#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn conformance_suite_finds_what_is_expected() {
    let (demo, folder) = (start_demo().await, TempDir::new().unwrap());
    for revision in ["2025-11-25", "2026-07-28"] {
        let mut suite = Command::new(testbed::path("K8SOPS_TEST_NODE"));
        suite.arg(testbed::path("K8SOPS_TEST_CONFORMANCE")).args(["server", "--requirements", revision, "-o", "out"]);
        suite.args(["--url", &format!("{}/mcp", demo.url)]);
        suite.args(["--expected-failures", &format!("{CLIENTS}/mcp_conformance.yaml")]);
        let printed = run_in_folder(&mut suite, folder.path()).await;
        assert!(printed.contains("Baseline check passed"), "{printed}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_finds_the_issuer_of_tokens() {
    let (issuer, folder) = (start_issuer().await, TempDir::new().unwrap());
    let env = vec![
        ("AUTH_MODE", "jwt".to_owned()),
        ("AUTH_JWT_ISSUER", issuer.url.clone()),
        ("AUTH_JWT_AUDIENCE", "k8sops".to_owned()),
    ];
    let model = ScriptedModel::new([]);
    let service = TestService::start(ServiceSetup { env, model: Some(model), ..ServiceSetup::default() }).await;
    let mut client = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
    client.arg(format!("{CLIENTS}/mcp_oauth.py")).arg(&service.base);
    assert_eq!(run_in_folder(&mut client, folder.path()).await.trim(), "done");
}
