//! The end of the program, in order and not: what it started does not outlive it.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use k8sops::{
    app::{Application, BuildOverrides},
    config::{AppConfig, SettingSources},
};
use k8sops_mcp::InProcessConnector;
use k8sops_models::ModelCatalog;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{program::k8sops_command, service::PATIENCE};

/// An MCP server that leaves neither when its input ends nor when it is asked to.
const STUBBORN: &str = r#"
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

/// The program with a stubborn server.
struct Program {
    child: Child,
    url: String,
    pid_file: PathBuf,
    data: TempDir,
}

impl Program {
    async fn start() -> Self {
        let data = TempDir::new().unwrap();
        let pid_file = data.path().join("server.pid");
        let args = serde_json::to_string(&["-c", STUBBORN, "sh", pid_file.to_str().unwrap()]).unwrap();
        let mut command = k8sops_command();
        command
            .arg("serve")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("K8SOPS_PORT", "0")
            .env("MEMORY_FILESYSTEM_PATH", data.path().join("sessions"))
            .env("MCP_SERVER_COMMAND", "sh")
            .env("MCP_SERVER_ARGS", args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().expect("it says where it listens");
            if let Some((_, url)) = line.split_once("listens on ") {
                break url.to_owned();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let program = Self { child, url, pid_file, data };
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        until("its server is connected", async || {
            let Ok(answer) = client.get(format!("{}/v1/info", program.url)).send().await else { return false };
            answer.json::<Value>().await.is_ok_and(|info| info["mcp_connected"] == true)
        })
        .await;
        program
    }

    fn server(&self) -> String {
        std::fs::read_to_string(&self.pid_file).unwrap().trim().to_owned()
    }

    async fn terminate(&self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    }

    async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap()
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let polled = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, polled).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// Dead, or dead and not yet collected by its new parent.
fn is_gone(pid: &str) -> bool {
    std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"))
        .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_kills_a_stdio_server_that_hangs() {
    let mut program = Program::start().await;
    let server = program.server();
    program.terminate().await;
    assert!(program.ended().await.success());
    assert!(is_gone(&server));
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_ends_program_and_servers_immediately() {
    let mut program = Program::start().await;
    let server = program.server();
    program.terminate().await;
    // It is in the middle of its stop: requests are not answered any more, and the server has its time to leave.
    let address = program.url.strip_prefix("http://").unwrap().to_owned();
    until("it listens no more", async || tokio::net::TcpStream::connect(&address).await.is_err()).await;
    assert!(!is_gone(&server));
    program.terminate().await;
    assert_eq!(program.ended().await.code(), Some(130));
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
    // No provider at all: not the one of new sessions either.
    let catalog = Some(ModelCatalog::new(&std::collections::BTreeMap::new()));
    let servers = vec![("one".to_owned(), Arc::new(connector) as _)];
    let refused = Application::build_with(&config, BuildOverrides { catalog, servers, demo: false }).await;
    let refused = refused.err().expect("there is no such provider").to_string();
    assert!(refused.contains("the default settings of sessions are invalid"), "{refused}");
    // Whatever was started would run now.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(connected.load(Ordering::SeqCst), 0);
}
