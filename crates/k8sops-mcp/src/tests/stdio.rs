use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8sops_core::ErrorChain;
use parking_lot::Mutex;
use secrecy::SecretString;
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ConnectError, ConnectionHandler, McpHub, McpTransport, build_connector,
    test_server::{TEST_TIMEOUT, eventually, test_options},
};

/// A server as a shell script: it answers the handshake and `tools/list`.
const SERVER: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id" ;;
    *tools/list*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"t","inputSchema":{"type":"object"}}]}}\n' "$id" ;;
  esac
done
"#;

fn shell_transport(script: &str, env: &[(&str, &str)]) -> McpTransport {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), SecretString::from(*value)));
    McpTransport::Stdio {
        command: "sh".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: env.collect::<BTreeMap<_, _>>(),
        pass_env: Vec::new(),
    }
}

fn start_hub(script: &str) -> Arc<McpHub> {
    let servers = vec![("sh".to_owned(), build_connector(&shell_transport(script, &[])).unwrap())];
    McpHub::start(servers, &test_options(), TaskTracker::new(), &CancellationToken::new())
}

async fn connect_hub(script: &str) -> Arc<McpHub> {
    let hub = start_hub(script);
    eventually("the server is connected", || hub.all_connected()).await;
    hub
}

async fn connect_error(transport: &McpTransport, limit: Duration) -> ConnectError {
    let connector = build_connector(transport).unwrap();
    connector.connect(ConnectionHandler::new("sh".into()), limit).await.expect_err("it cannot connect")
}

/// A file into which a script writes a process id.
struct PidFile {
    path: PathBuf,
    _dir: TempDir,
}

impl PidFile {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { path: dir.path().join("pid"), _dir: dir }
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn try_read(&self) -> Option<String> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        text.ends_with('\n').then(|| text.trim().to_owned())
    }

    fn read(&self) -> String {
        self.try_read().expect("the script has written its process id")
    }
}

/// Whether a process has exited; its parent may not have collected it yet.
fn has_exited(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

/// A server that writes its process id, ignores SIGTERM, and continues after its input is closed.
fn stubborn_script(pid_file: &PidFile, server: &str) -> String {
    format!("trap '' TERM; echo $$ > {}; {server} while :; do sleep 1; done", pid_file.path().display())
}

#[tokio::test]
async fn closing_leaves_no_orphan() {
    let pid_file = PidFile::new();
    let hub = connect_hub(&format!("sleep 1000 & echo $! > {}; {SERVER}", pid_file.path().display())).await;
    let pid = pid_file.read();
    assert!(!has_exited(&pid));
    hub.close().await;
    eventually("the grandchild has exited", || has_exited(&pid)).await;
}

#[tokio::test]
async fn server_that_ignores_sigterm_is_killed() {
    let pid_file = PidFile::new();
    let hub = connect_hub(&stubborn_script(&pid_file, SERVER)).await;
    let pid = pid_file.read();
    hub.close().await;
    eventually("the server has exited", || has_exited(&pid)).await;
}

#[tokio::test]
async fn immediate_close_skips_the_grace_period() {
    let pid_file = PidFile::new();
    let hub = connect_hub(&stubborn_script(&pid_file, SERVER)).await;
    let pid = pid_file.read();
    let closing = tokio::spawn({
        let hub = hub.clone();
        async move { hub.close().await }
    });
    eventually("the grace period has started", || !hub.all_connected()).await;
    hub.close_immediately().await;
    assert!(closing.is_finished() || tokio::time::timeout(Duration::from_secs(1), closing).await.is_ok());
    assert!(has_exited(&pid));
}

#[tokio::test]
async fn closing_during_discovery_leaves_no_server() {
    let pid_file = PidFile::new();
    let dir = tempfile::tempdir().unwrap();
    let list_requested = dir.path().join("list_requested");
    let silent_list = format!("*tools/list*) : > {}; : printf", list_requested.display());
    let server = SERVER.replace("*tools/list*) printf", &silent_list);
    let hub = start_hub(&stubborn_script(&pid_file, &server));
    eventually("the tools are requested", || list_requested.exists()).await;
    let pid = pid_file.read();
    hub.close().await;
    assert!(has_exited(&pid));
}

#[tokio::test]
async fn silent_server_times_out_and_is_killed() {
    let pid_file = PidFile::new();
    let script = format!("echo $$ > {}; echo waiting for a cluster >&2; exec sleep 1000", pid_file.path().display());
    let error = connect_error(&shell_transport(&script, &[]), Duration::from_secs(1)).await;
    let ConnectError::Timeout(reason) = &error else { panic!("{error:?}") };
    assert!(reason.to_string().ends_with("; stderr: waiting for a cluster"), "{reason}");
    let pid = pid_file.read();
    eventually("the server has exited", || has_exited(&pid)).await;
}

#[tokio::test]
async fn exit_at_start_is_explained_without_secrets() {
    let transport = shell_transport("echo \"bad token $TOKEN\" >&2; exit 3", &[("TOKEN", "hunter2hunter2")]);
    let error = connect_error(&transport, TEST_TIMEOUT).await;
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error:?}");
    assert_eq!(
        ErrorChain(&error).to_string(),
        "the connection was closed during the handshake: the server's process exited (exit status: 3); \
         stderr: bad token ***"
    );
}

/// The log, as text.
#[derive(Clone, Default)]
struct LogBuffer(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for LogBuffer {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn logs_and_errors_contain_no_secrets() {
    let log = LogBuffer::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // The whole test runs on this thread.
    let _subscriber = tracing::subscriber::set_default(subscriber);
    let McpTransport::Stdio { command, mut args, env, pass_env } =
        shell_transport("echo \"bad $TOKEN, $2, ${3#*=}, $4\" >&2; exit 3", &[("TOKEN", "hunter2hunter2")])
    else {
        unreachable!("a shell is a child process")
    };
    args.extend(["sh", "--token", "swordfish", "--api-key=open-sesame", "plain"].map(str::to_owned));
    let error = connect_error(&McpTransport::Stdio { command, args, env, pass_env }, TEST_TIMEOUT).await;
    let text = ErrorChain(&error).to_string();
    assert!(text.ends_with("; stderr: bad ***, ***, ***, plain"), "{text}");
    let logged = String::from_utf8(log.0.lock().clone()).unwrap();
    assert!(logged.contains("bad ***, ***, ***, plain"), "{logged}");
    for secret in ["hunter2", "swordfish", "open-sesame"] {
        assert!(!logged.contains(secret), "{logged}");
    }
}

#[tokio::test]
async fn missing_program_is_named() {
    let command = "no-such-mcp-server".to_owned();
    let transport = McpTransport::Stdio { command, args: Vec::new(), env: BTreeMap::new(), pass_env: Vec::new() };
    let text = ErrorChain(&connect_error(&transport, TEST_TIMEOUT).await).to_string();
    assert!(text.starts_with("cannot start `no-such-mcp-server` (is it installed and in PATH?): "), "{text}");
}

#[tokio::test]
async fn only_allowed_variables_are_inherited() {
    // Cargo sets CARGO_MANIFEST_DIR for tests; it stands for all variables that must be withheld.
    let script = "echo \"[$CARGO_MANIFEST_DIR] [${PATH:+path}] [$MODE]\" >&2; exit 1";
    let error = connect_error(&shell_transport(script, &[("MODE", "ro")]), TEST_TIMEOUT).await;
    let text = ErrorChain(&error).to_string();
    assert!(text.ends_with("; stderr: [] [path] [ro]"), "{text}");
}

#[tokio::test]
async fn killed_server_is_restarted() {
    let pid_file = PidFile::new();
    let hub = connect_hub(&format!("echo $$ > {}; {SERVER}", pid_file.path().display())).await;
    let first = pid_file.read();
    let killed = std::process::Command::new("kill").args(["-9", &first]).status().unwrap();
    assert!(killed.success());
    let is_restarted = || hub.all_connected() && pid_file.try_read().is_some_and(|pid| pid != first);
    eventually("another process is connected", is_restarted).await;
    hub.close().await;
}
