//! Clients by others over the doors: each runs turns against the demo.

use std::{os::unix::fs::symlink, path::Path};

use tempfile::TempDir;
use tokio::process::Command;

use crate::{clients::run_in_folder, demo::start_demo};
use k8sops_testing::testbed;

pub(crate) const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// Runs a program of `tests/clients` beside the packages of `chat_clients.json`.
pub(crate) async fn run_with_packages(program: &str, arguments: &[&str]) -> String {
    let folder = TempDir::new().unwrap();
    std::fs::copy(Path::new(CLIENTS).join(program), folder.path().join(program)).unwrap();
    symlink(testbed::path("K8SOPS_TEST_CHAT_CLIENTS"), folder.path().join("node_modules")).unwrap();
    let mut command = Command::new(testbed::path("K8SOPS_TEST_NODE"));
    command.arg(program).args(arguments);
    run_in_folder(&mut command, folder.path()).await
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn openai_sdk_chats_and_approves() {
    let (demo, folder) = (start_demo().await, TempDir::new().unwrap());
    let mut chat = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
    chat.arg(format!("{CLIENTS}/openai_chat.py")).arg(&demo.url);
    assert_eq!(run_in_folder(&mut chat, folder.path()).await.trim(), "done");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn ai_sdk_streams_a_chat() {
    let demo = start_demo().await;
    assert_eq!(run_with_packages("ai_sdk_chat.mjs", &[&demo.url]).await.trim(), "done");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn agui_clients_of_three_generations_run_and_resume() {
    let demo = start_demo().await;
    for version in ["0.0.45", "0.0.59", "1.0.0"] {
        assert_eq!(run_with_packages("agui_turn.mjs", &[&demo.url, version]).await.trim(), "done", "{version}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn agui_validator_finds_nothing() {
    let (demo, folder) = (start_demo().await, TempDir::new().unwrap());
    let mut validate = Command::new(testbed::path("K8SOPS_TEST_AGUI_VALIDATE"));
    validate.arg(format!("{}/agui", demo.url));
    run_in_folder(&mut validate, folder.path()).await;
}
