//! SIGHUP: live settings are applied, and an invalid configuration changes nothing.

use k8sops_testing::{TEST_TIMEOUT, child_program::ChildProgram, eventually};
use nix::sys::signal::Signal;
use reqwest::{
    Client,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::program::k8sops_command;

/// An MCP server with one tool, without annotations.
const SERVER: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id" ;;
    *tools/list*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"wipe","inputSchema":{"type":"object"}}]}}\n' "$id" ;;
  esac
done
"#;

struct ReloadedProgram {
    process: ChildProgram,
    http: Client,
    folder: TempDir,
}

impl ReloadedProgram {
    async fn start(yaml: &str) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("settings.yaml"), yaml).unwrap();
        let args = serde_json::to_string(&["-c", SERVER]).unwrap();
        let mut command = k8sops_command();
        command
            .arg("serve")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("K8SOPS_PORT", "0")
            .env("K8SOPS_CONFIG", folder.path().join("settings.yaml"))
            .env("MEMORY_FILESYSTEM_PATH", folder.path().join("sessions"))
            .env("MCP_SERVER_COMMAND", "sh")
            .env("MCP_SERVER_ARGS", args);
        let process = ChildProgram::start(&mut command).await;
        // The header of the user, for tests with `auth.mode: proxy`.
        let anna = HeaderMap::from_iter([(HeaderName::from_static("x-user"), HeaderValue::from_static("anna"))]);
        let http = Client::builder().no_proxy().default_headers(anna).build().unwrap();
        let program = Self { process, http, folder };
        eventually("the MCP server is connected", async || program.get_json("/v1/info").await["mcp_connected"] == true)
            .await;
        program
    }

    async fn get_json(&self, path: &str) -> Value {
        let answer = self.http.get(format!("{}{path}", self.process.url)).timeout(TEST_TIMEOUT).send().await.unwrap();
        answer.json().await.unwrap()
    }

    /// Returns the approval requirement of the tool.
    async fn tool_gate(&self) -> String {
        let tools = self.get_json("/v1/tools").await;
        let wipe = tools["tools"].as_array().unwrap().iter().find(|tool| tool["remote_name"] == "wipe").unwrap();
        wipe["gate"].as_str().unwrap().to_owned()
    }

    /// Writes another configuration and reloads it.
    fn reload(&self, yaml: &str) {
        std::fs::write(self.folder.path().join("settings.yaml"), yaml).unwrap();
        self.process.send_signal(Signal::SIGHUP);
    }

    fn has_logged(&self, text: &str) -> bool {
        self.process.stderr.lines().iter().any(|line| line.contains(text))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reloads_and_names_settings_needing_restart() {
    let program = ReloadedProgram::start("log: {level: error}\ntools: {approval: ask}\n").await;
    assert_eq!(program.tool_gate().await, "ask");
    assert_eq!(program.get_json("/v1/usage").await["today"]["max_tokens"], Value::Null);
    let yaml = "log: {level: info}\ntools: {approval: deny}\nbudgets: {user_day_tokens: 1234}\n\
                llm: {provider: ollama, model: qwen3:8b}\nserver: {max_message_bytes: 1KiB}\n";
    program.reload(yaml);
    eventually("the policy is applied", async || program.tool_gate().await == "deny").await;
    let changed =
        "config reloaded changed=\"budgets.user_day_tokens, llm.model, llm.provider, log.level, tools.approval\"";
    eventually("the changes are logged", async || program.has_logged(changed)).await;
    let restart = "config changes need a restart settings=\"server.max_message_bytes\"";
    eventually("the need of a restart is logged", async || program.has_logged(restart)).await;
    let usage = program.get_json("/v1/usage").await;
    assert!(usage["today"].to_string().contains("1234"), "{usage}");
    let info = program.get_json("/v1/info").await;
    assert_eq!((&info["default_provider"], &info["default_model"]), (&"ollama".into(), &"qwen3:8b".into()));
    assert_eq!(info["limits"]["max_message_bytes"], 65536);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_configuration_is_rejected_as_a_whole() {
    let program = ReloadedProgram::start("tools: {approval: ask}\n").await;
    for (yaml, said) in [
        ("tools: {approval: auto, max_output_share: 500}\n", "tools.max_output_share is `500`"),
        ("tools: {approval: auto}\nagent: {max_steps: many}\nbroken: [", "settings.yaml"),
        (
            "tools: {approval: auto}\nllm: {provider: anthropic, model: made-up}\n",
            "providers and their models need a restart",
        ),
    ] {
        program.reload(yaml);
        eventually(said, async || program.has_logged(said)).await;
        assert_eq!(program.tool_gate().await, "ask", "{yaml}");
    }
    assert!(program.has_logged("config reload rejected, keeping previous"));
    program.reload("tools: {approval: deny}\n");
    eventually("a valid configuration is applied", async || program.tool_gate().await == "deny").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_raises_and_lowers_limits() {
    let program = ReloadedProgram::start("limits: {streams_per_user: 1}\n").await;
    let session = program.http.post(format!("{}/v1/sessions", program.process.url)).send().await.unwrap();
    let session: Value = session.json().await.unwrap();
    let events = format!("{}/v1/sessions/{}/events", program.process.url, session["session_id"].as_str().unwrap());
    let follow = async || program.http.get(&events).header("accept", "text/event-stream").send().await.unwrap();
    let first = follow().await;
    assert_eq!(first.status(), 200);
    assert_eq!(follow().await.status(), 429);
    program.reload("limits: {streams_per_user: 2}\n");
    eventually("the higher limit is applied", async || program.has_logged("changed=\"limits.streams_per_user\"")).await;
    let second = follow().await;
    assert_eq!(second.status(), 200);
    program.reload("limits: {streams_per_user: 1, requests_per_minute: 1}\n");
    let said = "changed=\"limits.requests_per_minute, limits.streams_per_user\"";
    eventually("the lower limit is applied", async || program.has_logged(said)).await;
    drop((first, second));
    let mut refused = false;
    for _ in 0..3 {
        refused |= follow().await.status() == 429;
    }
    assert!(refused, "three requests where one a minute is allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_never_bypasses_approval() {
    let auth = "auth: {mode: proxy, proxy: {user_header: X-User, sources: 127.0.0.0/8}}\n";
    let program = ReloadedProgram::start(&format!("{auth}tools: {{approval: ask, approval_by: approver}}\n")).await;
    // This pair is valid at a start, but `approval_by` changes only at a start.
    program.reload(&format!("{auth}tools: {{approval: auto, approval_by: owner}}\n"));
    eventually("the reload is rejected", async || program.has_logged("no approval would be requested")).await;
    assert_eq!(program.tool_gate().await, "ask");
}
