use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use secrecy::SecretString;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ConnectError, ConnectionHandler, McpHub, McpTransport, build_connector,
    test_server::{TEST_TIMEOUT, eventually, test_options},
};

/// A server in a few lines of shell: it answers the handshake and `tools/list`, each with the id it was asked with.
const SERVER: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id" ;;
    *tools/list*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"t","inputSchema":{"type":"object"}}]}}\n' "$id" ;;
  esac
done
"#;

fn shell(script: &str, env: &[(&str, &str)]) -> McpTransport {
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), SecretString::from(*v)));
    McpTransport::Stdio {
        command: "sh".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: env.collect::<BTreeMap<_, _>>(),
    }
}

fn hub_on(transport: &McpTransport) -> Arc<McpHub> {
    let servers = vec![("sh".to_owned(), build_connector(transport).unwrap())];
    McpHub::start(servers, &test_options(), TaskTracker::new(), &CancellationToken::new())
}

async fn refused(transport: &McpTransport, limit: Duration) -> ConnectError {
    let connector = build_connector(transport).unwrap();
    connector.connect(ConnectionHandler::new("sh".into()), limit).await.expect_err("this is no server")
}

fn read_pid(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.ends_with('\n').then(|| text.trim().to_owned())
}

/// Dead, or dead and not yet collected by its new parent.
fn is_gone(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

#[tokio::test]
async fn closing_leaves_no_orphan() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; {SERVER}", pid_file.display());
    let hub = hub_on(&shell(&script, &[]));
    eventually("the server is connected", || hub.all_connected()).await;
    let pid = read_pid(&pid_file).expect("the server has written it");
    assert!(!is_gone(&pid));
    hub.close().await;
    eventually("the grandchild is gone", || is_gone(&pid)).await;
}

#[tokio::test]
async fn a_server_that_ignores_its_end_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!("trap '' TERM; echo $$ > {}; {SERVER} while :; do sleep 1; done", pid_file.display());
    let hub = hub_on(&shell(&script, &[]));
    eventually("the server is connected", || hub.all_connected()).await;
    let pid = read_pid(&pid_file).expect("the server has written it");
    hub.close().await;
    eventually("the server is gone", || is_gone(&pid)).await;
}

#[tokio::test]
async fn a_server_that_ignores_its_end_is_killed_at_once_in_a_hurry() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!("trap '' TERM; echo $$ > {}; {SERVER} while :; do sleep 1; done", pid_file.display());
    let hub = hub_on(&shell(&script, &[]));
    eventually("the server is connected", || hub.all_connected()).await;
    let pid = read_pid(&pid_file).expect("the server has written it");
    // It comes while the server has its time to leave by itself.
    let closing = tokio::spawn({
        let hub = hub.clone();
        async move { hub.close().await }
    });
    eventually("it closes", || !hub.all_connected()).await;
    hub.close_immediately().await;
    assert!(closing.is_finished() || tokio::time::timeout(Duration::from_secs(1), closing).await.is_ok());
    assert!(is_gone(&pid));
}

#[tokio::test]
async fn a_server_that_is_not_done_with_its_tools_at_the_end_is_not_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (pid_file, asked) = (dir.path().join("pid"), dir.path().join("asked"));
    let silent = SERVER.replace("*tools/list*) printf", &format!("*tools/list*) : > {}; : printf", asked.display()));
    let script = format!("trap '' TERM; echo $$ > {}; {silent} while :; do sleep 1; done", pid_file.display());
    let hub = hub_on(&shell(&script, &[]));
    eventually("the server is asked for its tools", || asked.exists()).await;
    let pid = read_pid(&pid_file).expect("the server has written it");
    hub.close().await;
    assert!(is_gone(&pid));
}

#[tokio::test]
async fn a_silent_server_is_given_up_and_killed() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!("echo $$ > {}; echo waiting for a cluster >&2; exec sleep 1000", pid_file.display());
    let error = refused(&shell(&script, &[]), Duration::from_secs(1)).await;
    assert!(
        matches!(&error, ConnectError::Timeout(text) if text.ends_with("it said: waiting for a cluster")),
        "{error}"
    );
    let pid = read_pid(&pid_file).expect("the server has written it");
    eventually("the server is gone", || is_gone(&pid)).await;
}

#[tokio::test]
async fn a_server_that_dies_at_start_has_its_last_words_told_without_secrets() {
    let transport = shell("echo \"bad token $TOKEN\" >&2; exit 3", &[("TOKEN", "hunter2hunter2")]);
    let error = refused(&transport, TEST_TIMEOUT).await;
    assert_eq!(
        error,
        ConnectError::Unreachable("the server's process ended (exit status: 3); it said: bad token ***".to_owned())
    );
}

/// What is logged, as text.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_a_server_says_is_logged_and_told_without_its_variables_and_secret_arguments() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // All of this test runs on this thread.
    let _log = tracing::subscriber::set_default(subscriber);
    let McpTransport::Stdio { command, mut args, env } =
        shell("echo \"bad $TOKEN, $2, ${3#*=}, $4\" >&2; exit 3", &[("TOKEN", "hunter2hunter2")])
    else {
        unreachable!("the shell is a program")
    };
    args.extend(["sh", "--token", "swordfish", "--api-key=open-sesame", "plain"].map(str::to_owned));
    let error = refused(&McpTransport::Stdio { command, args, env }, TEST_TIMEOUT).await.to_string();
    assert!(error.ends_with("it said: bad ***, ***, ***, plain"), "{error}");
    let logged = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("bad ***, ***, ***, plain"), "{logged}");
    for secret in ["hunter2", "swordfish", "open-sesame"] {
        assert!(!logged.contains(secret), "{logged}");
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let transport =
        McpTransport::Stdio { command: "no-such-mcp-server".to_owned(), args: Vec::new(), env: BTreeMap::new() };
    let error = refused(&transport, TEST_TIMEOUT).await.to_string();
    assert!(error.starts_with("cannot start `no-such-mcp-server`: "), "{error}");
}

#[tokio::test]
async fn a_server_gets_the_allowed_environment_and_what_is_configured() {
    // Cargo sets CARGO_MANIFEST_DIR for tests; it stands for all that must not be passed on.
    let script = "echo \"[$CARGO_MANIFEST_DIR] [${PATH:+path}] [$MODE]\" >&2; exit 1";
    let error = refused(&shell(script, &[("MODE", "ro")]), TEST_TIMEOUT).await.to_string();
    assert!(error.ends_with("it said: [] [path] [ro]"), "{error}");
}

#[tokio::test]
async fn a_killed_server_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!("echo $$ > {}; {SERVER}", pid_file.display());
    let hub = hub_on(&shell(&script, &[]));
    eventually("the server is connected", || hub.all_connected()).await;
    let first = read_pid(&pid_file).expect("the server has written it");
    let killed = std::process::Command::new("kill").args(["-9", &first]).status().unwrap();
    assert!(killed.success());
    eventually("another is connected", || hub.all_connected() && read_pid(&pid_file).is_some_and(|pid| pid != first))
        .await;
    hub.close().await;
}
