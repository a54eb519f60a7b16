//! `k8sops doctor` as a program.

use std::path::Path;

use k8sops::auth::UserRole;
use k8sops_testing::{TEST_TIMEOUT, testbed::free_port};
use tokio::{process::Command, time::timeout};

use crate::{demo::start_demo, keys::ApiKeyFile, program::k8sops_command};

fn doctor_command(data: &Path) -> Command {
    let mut command = k8sops_command();
    command.arg("doctor").env("MEMORY_FILESYSTEM_PATH", data);
    command
}

/// Runs the doctor and returns its exit code and report.
async fn run_doctor(command: &mut Command) -> (Option<i32>, String) {
    let output = timeout(TEST_TIMEOUT, command.output()).await.expect("the doctor ends").unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn report_says_what_fails_and_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let port = free_port().to_string();
    let mut command = doctor_command(data.path());
    command.envs([("LLM_PROVIDER", "anthropic"), ("MCP_TRANSPORT", "http")]);
    command.env("MCP_SERVER_URL", format!("http://127.0.0.1:{port}/mcp"));
    let (code, report) = run_doctor(&mut command).await;
    assert_eq!(code, Some(1), "{report}");
    // The texts of the configuration and of connection errors, and the disk space, are not the doctor's.
    let report = report.replace(&port, "PORT").replace(data.path().to_str().unwrap(), "FOLDER");
    let stable: Vec<String> = report
        .lines()
        .map(|line| match line {
            _ if line.contains(" mcp ") || line.contains(" configuration: ") => {
                format!("{}: …", line.split(": ").next().unwrap_or_default())
            }
            _ if line.contains(" GiB free") => format!("{}, … GiB free", line.split(", ").next().unwrap_or_default()),
            _ => line.to_owned(),
        })
        .collect();
    insta::assert_snapshot!(stable.join("\n"), @"
    ok    configuration: …
    note  configuration: …
    ok    identity: AUTH_MODE=none on 127.0.0.1 only: all local callers are one user
    FAIL  provider anthropic: the API key is missing — set ANTHROPIC_API_KEY, or choose another provider with LLM_PROVIDER
    note  provider ollama: not checked: the catalog names no model of this provider
    note  provider openai: not checked: the API key is missing (OPENAI_API_KEY)
    FAIL  mcp default: …
    ok    store filesystem: FOLDER is writable, … GiB free
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn web_server_is_not_taken_for_a_model_server() {
    let demo = start_demo().await;
    let data = tempfile::tempdir().unwrap();
    let mut command = doctor_command(data.path());
    command.envs([("LLM_PROVIDER", "openai"), ("OPENAI_API_KEY", "k")]);
    command.env("OPENAI_BASE_URL", format!("{}/v1", demo.url));
    let (_, report) = run_doctor(&mut command).await;
    let line = report.lines().find(|line| line.contains("provider openai")).unwrap();
    assert!(line.starts_with("FAIL") && line.contains("404") && line.contains("doubled /v1"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn report_names_the_owner_of_the_token() {
    let mut keys = ApiKeyFile::new();
    let anna = keys.add("anna", &[UserRole::User, UserRole::Approver]);
    let data = tempfile::tempdir().unwrap();
    let env = keys.env();
    let identity_line = async |arguments: &[&str]| {
        let (_, report) = run_doctor(doctor_command(data.path()).args(arguments).envs(env.clone())).await;
        assert!(!report.contains(&anna) && !report.contains("made-up"), "{report}");
        report.lines().find(|line| line.contains("identity")).unwrap_or_else(|| panic!("{report}")).to_owned()
    };
    let line = identity_line(&["--token", &anna]).await;
    assert!(line.starts_with("ok") && line.contains("belongs to anna (user, approver)"), "{line}");
    let line = identity_line(&["--token", "k8sops_made-up"]).await;
    assert!(line.starts_with("FAIL") && line.contains("another --token"), "{line}");
    let line = identity_line(&[]).await;
    assert!(line.starts_with("ok") && line.contains("api_key"), "{line}");
    keys.remove("anna");
    let line = identity_line(&["--token", &anna]).await;
    assert!(line.starts_with("FAIL"), "a key file without entries: {line}");
}
