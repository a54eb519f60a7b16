//! Shutdown of the program: the MCP servers that it started do not outlive it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use k8sops::{
    app::{Application, BuildOverrides},
    config::{AppConfig, SettingSources},
};
use k8sops_mcp::InProcessConnector;
use k8sops_models::ModelCatalog;
use k8sops_testing::{child_program::ChildProgram, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::k8sops_command;

/// An MCP server that exits neither at the end of its input nor on SIGTERM.
const HANGING_SERVER: &str = r#"
trap '' TERM
echo $$ > "$1"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id" ;;
    *tools/list*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[]}}\n' "$id" ;;
  esac
done
while :; do sleep 1; done
"#;

/// The program with an MCP server that does not exit by itself.
struct ProgramWithServer {
    process: ChildProgram,
    pid_file: PathBuf,
    data: TempDir,
}

impl ProgramWithServer {
    async fn start() -> Self {
        let data = TempDir::new().unwrap();
        let pid_file = data.path().join("server.pid");
        let args = serde_json::to_string(&["-c", HANGING_SERVER, "sh", pid_file.to_str().unwrap()]).unwrap();
        let mut command = k8sops_command();
        command
            .arg("serve")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("K8SOPS_PORT", "0")
            .env("MEMORY_FILESYSTEM_PATH", data.path().join("sessions"))
            .env("MCP_SERVER_COMMAND", "sh")
            .env("MCP_SERVER_ARGS", args);
        let process = ChildProgram::start(&mut command).await;
        let program = Self { process, pid_file, data };
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        eventually("the MCP server is connected", async || {
            let Ok(answer) = client.get(format!("{}/v1/info", program.process.url)).send().await else { return false };
            answer.json::<Value>().await.is_ok_and(|info| info["mcp_connected"] == true)
        })
        .await;
        program
    }

    fn server_pid(&self) -> String {
        std::fs::read_to_string(&self.pid_file).unwrap().trim().to_owned()
    }
}

/// Returns whether a process has ended, even if its new parent has not collected it yet.
fn is_gone(pid: &str) -> bool {
    std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"))
        .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_kills_a_stdio_server_that_hangs() {
    let mut program = ProgramWithServer::start().await;
    let server = program.server_pid();
    program.process.send_signal(Signal::SIGTERM);
    assert!(program.process.wait().await.success());
    assert!(is_gone(&server));
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_ends_program_and_servers_immediately() {
    let mut program = ProgramWithServer::start().await;
    let server = program.server_pid();
    program.process.send_signal(Signal::SIGTERM);
    // The shutdown is in progress: requests are not accepted any more, and the server has time to end.
    let address = program.process.url.strip_prefix("http://").unwrap().to_owned();
    eventually("the program does not listen any more", async || {
        tokio::net::TcpStream::connect(&address).await.is_err()
    })
    .await;
    assert!(!is_gone(&server));
    program.process.send_signal(Signal::SIGTERM);
    assert_eq!(program.process.wait().await.code(), Some(130));
    assert!(is_gone(&server), "the server has outlived the program");
    drop(program.data);
}

#[tokio::test]
async fn failed_start_launches_no_server() {
    let connected = Arc::new(AtomicUsize::new(0));
    let count = connected.clone();
    let connector = InProcessConnector::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(tokio::io::duplex(64).0)
    });
    let env = [("MEMORY_BACKEND", "memory"), ("MEMORY_FILESYSTEM_PATH", "."), ("K8SOPS_PORT", "0")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let config = AppConfig::load(SettingSources { env, ..SettingSources::default() }).unwrap().config;
    // Without providers, the default provider of sessions is missing, too.
    let catalog = Some(ModelCatalog::new(&std::collections::BTreeMap::new()));
    let servers = vec![("one".to_owned(), Arc::new(connector) as _)];
    let refused = Application::build_with(&config, BuildOverrides { catalog, servers, demo: false }).await;
    let refused = refused.err().expect("the provider does not exist").to_string();
    assert!(refused.contains("the default settings of sessions are invalid"), "{refused}");
    // A server that was launched would connect now.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(connected.load(Ordering::SeqCst), 0);
}
