//! Servers with a process per user or per session.

use std::{collections::BTreeMap, sync::Arc};

use k8sops_core::{SessionId, UserId};
use secrecy::SecretString;
use serde_json::Map;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    CallError, McpCallContext, McpHub, McpServerConfig, McpTransport, ServerScope, ToolFilter, build_server_connector,
    test_server::{TEST_TIMEOUT, eventually, test_call_context, test_options},
};

/// A server as a shell script: a call returns how many calls its process has had, and its `KUBECONFIG`.
const SERVER: &str = r#"
calls=0
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id" ;;
    *tools/list*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"t","inputSchema":{"type":"object"}}]}}\n' "$id" ;;
    *tools/call*) calls=$((calls + 1)); printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%s %s"}]}}\n' "$id" "$calls" "$KUBECONFIG" ;;
  esac
done
"#;

fn start_hub(scope: ServerScope, kubeconfig: &str) -> Arc<McpHub> {
    let transport = McpTransport::Stdio {
        command: "sh".to_owned(),
        args: vec!["-c".to_owned(), SERVER.to_owned()],
        env: BTreeMap::from([("KUBECONFIG".to_owned(), SecretString::from(kubeconfig))]),
        pass_env: Vec::new(),
    };
    let config = McpServerConfig {
        name: "sh".to_owned(),
        cluster: None,
        instructions: None,
        transport,
        scope,
        tools: ToolFilter::default(),
    };
    let servers = vec![("sh".to_owned(), build_server_connector(&config).unwrap())];
    McpHub::start(servers, &test_options(), TaskTracker::new(), &CancellationToken::new())
}

async fn call(hub: &McpHub, user: &str, session: SessionId) -> (String, String) {
    let context = McpCallContext {
        user: Some(user.parse::<UserId>().unwrap()),
        session: Some(session),
        ..test_call_context(TEST_TIMEOUT)
    };
    let text = hub.call_tool("sh", "t", Map::new(), context).await.unwrap().text;
    let (calls, kubeconfig) = text.split_once(' ').unwrap();
    (calls.to_owned(), kubeconfig.to_owned())
}

#[tokio::test]
async fn each_owner_has_a_process_and_a_kubeconfig() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let inherited = file.path().display().to_string();
    for (scope, expected) in [
        (ServerScope::Shared, ["1", "2", "3", "4"]),
        (ServerScope::User, ["1", "2", "1", "3"]),
        (ServerScope::Session, ["1", "1", "1", "2"]),
    ] {
        let hub = start_hub(scope, &inherited);
        eventually("the tools are known", || hub.statuses()[0].tools.len() == 1).await;
        assert_eq!(hub.scope_of("sh"), scope);
        let [one, two, three] = [(); 3].map(|()| SessionId::new());
        let mut calls = Vec::new();
        let mut kubeconfigs = Vec::new();
        for (user, session) in [("anna", one), ("anna", two), ("ben", three), ("anna", one)] {
            let (count, kubeconfig) = call(&hub, user, session).await;
            calls.push(count);
            kubeconfigs.push(kubeconfig);
        }
        assert_eq!(calls, expected, "{scope:?}");
        assert_eq!(kubeconfigs[0], kubeconfigs[3], "{scope:?}");
        match scope {
            ServerScope::Shared => assert_eq!(kubeconfigs[0], inherited),
            ServerScope::User | ServerScope::Session => {
                assert_ne!(kubeconfigs[0], kubeconfigs[2], "{scope:?}");
                assert!(
                    !kubeconfigs[0].contains(&inherited),
                    "a process that one owner has could write to all: {kubeconfigs:?}"
                );
            }
        }
        hub.close().await;
    }
}

#[tokio::test]
async fn call_without_an_owner_is_not_sent() {
    let hub = start_hub(ServerScope::User, "/nonexistent");
    let outcome = hub.call_tool("sh", "t", Map::new(), test_call_context(TEST_TIMEOUT)).await;
    assert!(matches!(outcome, Err(CallError::NotSent(_))), "{outcome:?}");
    hub.close().await;
}
