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
async fn frameworks_for_node_run_turns_over_both_doors_of_openai() {
    let demo = start_demo().await;
    assert_eq!(run_with_packages("node_frameworks.mjs", &[&demo.url]).await.trim(), "done");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn openai_sdk_reads_responses_from_any_place() {
    let (demo, folder) = (start_demo().await, TempDir::new().unwrap());
    let mut read = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
    read.arg(format!("{CLIENTS}/openai_responses.py")).arg(&demo.url);
    assert_eq!(run_in_folder(&mut read, folder.path()).await.trim(), "done");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn ai_sdk_streams_and_approves_responses() {
    let demo = start_demo().await;
    assert_eq!(run_with_packages("ai_sdk_responses.mjs", &[&demo.url]).await.trim(), "done");
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

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn agui_inspector_works_in_a_browser() {
    let demo = start_demo().await;
    let [page, modules, chromium] =
        ["K8SOPS_TEST_AGUI_INSPECTOR", "K8SOPS_TEST_CONSOLE_MODULES", "K8SOPS_TEST_CHROMIUM"].map(testbed::path);
    assert_eq!(run_with_packages("agui_inspector.mjs", &[&demo.url, &page, &modules, &chromium]).await.trim(), "done");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn assistant_ui_example_works_in_a_browser() {
    let (demo, folder) = (start_demo().await, TempDir::new().unwrap());
    for name in ["index.html", "page.tsx"] {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/assistant-ui").join(name);
        std::fs::copy(example, folder.path().join(name)).unwrap();
    }
    symlink(testbed::path("K8SOPS_TEST_CHAT_CLIENTS"), folder.path().join("node_modules")).unwrap();
    let modules = testbed::path("K8SOPS_TEST_CONSOLE_MODULES");
    let mut bundler = Command::new(testbed::path("K8SOPS_TEST_NODE"));
    bundler.arg(format!("{modules}/esbuild/bin/esbuild")).args([
        "page.tsx",
        "--bundle",
        "--jsx=automatic",
        "--outdir=.",
    ]);
    run_in_folder(&mut bundler, folder.path()).await;
    let (page, chromium) = (folder.path().to_str().unwrap(), testbed::path("K8SOPS_TEST_CHROMIUM"));
    assert_eq!(run_with_packages("assistant_ui.mjs", &[&demo.url, page, &modules, &chromium]).await.trim(), "done");
}
