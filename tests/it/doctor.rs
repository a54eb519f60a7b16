//! `k8sops doctor` as a program.

use std::path::Path;

use k8sops::auth::UserRole;
use k8sops_testing::{TEST_TIMEOUT, scripted_model::ScriptedModel, testbed::free_port};
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};

use crate::{
    keys::ApiKeyFile,
    program::k8sops_command,
    service::{ServiceSetup, TestService},
};

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

/// A server as a shell script, with one tool that reads. Its arguments are the result of the call.
const SERVER: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) result='{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}' ;;
    *tools/list*) result='{"tools":[{"name":"namespaces_list","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}]}' ;;
    *tools/call*) result=$1 ;;
    *) continue ;;
  esac
  printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
"#;

#[tokio::test(flavor = "multi_thread")]
async fn server_is_asked_about_its_cluster() {
    let data = tempfile::tempdir().unwrap();
    let server = data.path().join("server.sh");
    std::fs::write(&server, SERVER).unwrap();
    let alive = json!({"content": [{"type": "text", "text": "default"}]});
    let dead = json!({"content": [{"type": "text", "text": "dial tcp: connection refused"}], "isError": true});
    let server_of = |name: &str, scope: &str, answer: &Value| {
        json!({"name": name, "transport": "stdio", "command": "sh", "scope": scope,
            "args": [server.to_str().unwrap(), answer.to_string()]})
    };
    let servers = [
        server_of("shared", "shared", &alive),
        server_of("user", "user", &alive),
        server_of("session", "session", &alive),
        server_of("dead", "shared", &dead),
    ];
    let config = data.path().join("settings.yaml");
    std::fs::write(&config, json!({"mcp": {"servers": servers}}).to_string()).unwrap();
    let (code, report) = run_doctor(doctor_command(data.path()).env("K8SOPS_CONFIG", &config)).await;
    assert_eq!(code, Some(1), "{report}");
    let line = |name: &str| {
        let line = report.lines().find(|line| line.contains(&format!(" mcp {name}:")));
        line.unwrap_or_else(|| panic!("no line of {name}: {report}"))
    };
    for name in ["shared", "user", "session"] {
        assert!(line(name).starts_with("ok") && line(name).contains("namespaces_list answers"), "{}", line(name));
    }
    assert!(line("dead").starts_with("FAIL") && line("dead").contains("connection refused"), "{}", line("dead"));
}

#[tokio::test(flavor = "multi_thread")]
async fn web_server_is_not_taken_for_a_model_server() {
    // Its door for clients of OpenAI's API would be one.
    let env = vec![("K8SOPS_DOORS", "native".to_owned())];
    let setup = ServiceSetup { env, model: Some(ScriptedModel::new([])), ..ServiceSetup::default() };
    let other = TestService::start(setup).await;
    let data = tempfile::tempdir().unwrap();
    let mut command = doctor_command(data.path());
    command.envs([("LLM_PROVIDER", "openai"), ("OPENAI_API_KEY", "k")]);
    command.env("OPENAI_BASE_URL", format!("{}/v1", other.base));
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
