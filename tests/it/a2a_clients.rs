//! Programs by others over the A2A door: each works with the demo.

use tempfile::TempDir;
use tokio::process::Command;

use crate::{clients::run_in_folder, demo::start_demo, door_clients::CLIENTS};
use k8sops_testing::testbed;

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn official_sdk_sends_streams_approves_and_cancels_over_both_bindings() {
    let (demo, folder) = (start_demo().await, TempDir::new().unwrap());
    let mut client = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
    client.arg(format!("{CLIENTS}/a2a_turn.py")).arg(&demo.url);
    assert_eq!(run_in_folder(&mut client, folder.path()).await.trim(), "done");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn card_checker_finds_no_errors() {
    let (demo, folder) = (start_demo().await, TempDir::new().unwrap());
    let mut check = Command::new(testbed::path("K8SOPS_TEST_A2AOPS"));
    check.args(["card", "check", &demo.url]);
    run_in_folder(&mut check, folder.path()).await;
}
