//! The catalog over a hub with servers in this process.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rmcp::model::ToolAnnotations;
use serde_json::{Map, Value, json};

use super::{
    ApprovalRequirement, ClassifiedCall, ElicitationAnswer, ElicitationHandler, ElicitationRequest, SessionToolFactory,
    ToolCallContext, ToolCatalog, ToolExecutor, ToolExecutorFactory, ToolOutcome, UserTokens,
};
use crate::{ApprovalMode, ToolsConfig};
use k8sops_core::{OutputStore, SessionId, ToolCallId, ToolEffect, ToolStatus};
use k8sops_mcp::{
    CallLimits, McpHub,
    test_server::{TestMcpServer, connect_test_hub, eventually, start_test_hub, test_options, tool},
};
use k8sops_store::{MemoryStore, contract};

fn policy(approval: ApprovalMode) -> ToolsConfig {
    ToolsConfig {
        approval,
        approval_by: crate::ApprovalBy::Owner,
        approve_untrusted: false,
        rules: Vec::new(),
        approval_ttl: Duration::from_hours(1),
        max_output_bytes: 4096,
        max_output_tokens: 8000,
        max_output_share: 10,
        keep_output_bytes: 1 << 20,
    }
}

/// The tools of a session, over a catalog of the hub's.
struct Tools {
    catalog: Arc<ToolCatalog>,
    toolbox: SessionToolFactory,
    tools: Arc<dyn ToolExecutor>,
    store: Arc<MemoryStore>,
    session: SessionId,
}

impl std::ops::Deref for Tools {
    type Target = ToolCatalog;
    fn deref(&self) -> &ToolCatalog {
        &self.catalog
    }
}

impl Tools {
    async fn with(hub: &Arc<McpHub>, config: ToolsConfig) -> Self {
        let catalog = Arc::new(ToolCatalog::new(hub.clone(), &config));
        let store = Arc::new(MemoryStore::new(false));
        let session = contract::new_session(store.as_ref()).await;
        let limits = CallLimits::uniform(Duration::from_secs(10));
        let toolbox =
            SessionToolFactory::new(catalog.clone(), hub.clone(), store.clone(), limits, UserTokens::default(), config);
        let tools = toolbox.create_executor(session, &contract::user("anna"));
        Self { catalog, toolbox, tools, store, session }
    }

    fn classify(&self, name: &str, arguments: &Map<String, Value>) -> Option<ClassifiedCall> {
        self.tools.classify_call(name, arguments)
    }
}

struct NobodyToAsk;

#[async_trait]
impl ElicitationHandler for NobodyToAsk {
    async fn handle_elicitation(&self, _: ElicitationRequest) -> ElicitationAnswer {
        ElicitationAnswer::Cancel
    }
}

async fn catalog(hub: &Arc<McpHub>) -> Tools {
    Tools::with(hub, policy(ApprovalMode::Ask)).await
}

async fn call(catalog: &Tools, name: &str) -> ToolOutcome {
    let class = catalog.classify(name, &Map::new()).expect("there is such a tool");
    run(catalog, &class).await
}

fn site(id: &ToolCallId) -> ToolCallContext {
    ToolCallContext {
        id: id.clone(),
        progress: Arc::new(|_| {}),
        elicitation_handler: Arc::new(NobodyToAsk),
        context_window: None,
    }
}

async fn run(catalog: &Tools, class: &ClassifiedCall) -> ToolOutcome {
    catalog.tools.execute_call(class, &Map::new(), site(&ToolCallId::generate())).await
}

#[tokio::test]
async fn specs_are_sorted_and_made_anew_only_on_change() {
    let world = TestMcpServer::new();
    let hub = connect_test_hub(&world, &test_options()).await;
    let catalog = catalog(&hub).await;
    let specs = catalog.specs();
    assert_eq!(
        specs.iter().map(|s| &*s.name).collect::<Vec<_>>(),
        ["big", "echo", "fail", "hang", "read_output", "search_output", "silent", "steps"]
    );
    assert!(Arc::ptr_eq(&specs, &catalog.specs()));
    assert_eq!(specs[0].input_schema.get("properties"), Some(&json!({})));
    world.tools.lock().truncate(2);
    hub.refresh_tools().await;
    assert_eq!(catalog.specs().len(), 4);
    hub.close().await;
}

#[tokio::test]
async fn tools_of_two_servers_with_one_name_are_told_apart() {
    let (prod, test) = (TestMcpServer::new(), TestMcpServer::new());
    test.tools.lock().truncate(1);
    let hub = start_test_hub(&[("prod", &prod), ("test", &test)], &test_options());
    eventually("both are connected", || hub.all_connected()).await;
    let catalog = catalog(&hub).await;
    assert!(catalog.classify("echo", &Map::new()).is_none());
    assert_eq!(call(&catalog, "test_echo").await.status, ToolStatus::Ok);
    assert_eq!((prod.call_count("echo"), test.call_count("echo")), (0, 1));
    let infos = catalog.list();
    let info = infos.iter().find(|i| i.name == "prod_echo").unwrap();
    assert_eq!((info.server.as_str(), info.remote_name.as_str()), ("prod", "echo"));
    hub.close().await;
}

#[tokio::test]
async fn the_gate_follows_the_effect_and_the_policy() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    for (approval, gate) in [
        (ApprovalMode::Ask, ApprovalRequirement::Required),
        (ApprovalMode::Auto, ApprovalRequirement::RequiredIfUntrusted),
        (ApprovalMode::Deny, ApprovalRequirement::Denied),
    ] {
        let catalog = Tools::with(&hub, policy(approval)).await;
        let read = catalog.classify("echo", &Map::new()).unwrap();
        assert_eq!((read.effect, read.approval), (ToolEffect::Read, ApprovalRequirement::NotRequired));
        let mutating = catalog.classify("hang", &Map::new()).unwrap();
        assert_eq!((mutating.effect, mutating.approval), (ToolEffect::Mutating, gate));
        assert_eq!(mutating.reason, "no annotation by server sim: treated as mutating");
        assert_eq!(catalog.classify("silent", &Map::new()).unwrap().effect, ToolEffect::Idempotent);
    }
    hub.close().await;
}

#[tokio::test]
async fn a_megabyte_is_cut_to_the_budget() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let outcome = call(&catalog(&hub).await, "big").await;
    assert_eq!((outcome.status, outcome.truncated, outcome.bytes), (ToolStatus::Ok, true, 1024 * 1024));
    assert!(outcome.content.len() <= 4096);
    assert!(outcome.content.contains("×65536 alike"), "{}", outcome.content);
    hub.close().await;
}

#[tokio::test]
async fn failures_of_every_kind_are_told_to_the_model() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let catalog = catalog(&hub).await;
    let failed = call(&catalog, "fail").await;
    assert_eq!((failed.status, failed.content.as_str()), (ToolStatus::Error, "no such pod"));
    assert_eq!(catalog.classify("nothing", &Map::new()), None);
    assert_eq!(call(&catalog, "silent").await.content, "(no output)");
    hub.close().await;
    let away = call(&catalog, "echo").await;
    assert_eq!(away.status, ToolStatus::Error);
    assert!(away.content.starts_with("The tool was not run: "), "{}", away.content);
}

#[tokio::test]
async fn a_mutating_call_whose_connection_breaks_is_unknown() {
    let world = TestMcpServer::new();
    let hub = connect_test_hub(&world, &test_options()).await;
    let running = tokio::spawn({
        let catalog = catalog(&hub).await;
        async move { call(&catalog, "hang").await }
    });
    eventually("the call runs", || world.call_count("hang") == 1).await;
    world.cut_connection();
    let outcome = running.await.unwrap();
    assert_eq!(outcome.status, ToolStatus::Unknown);
    assert!(outcome.content.contains("Check the state before doing it again."), "{}", outcome.content);
    hub.close().await;
}

#[tokio::test]
async fn a_change_that_the_server_broke_off_is_unknown() {
    let world = TestMcpServer::new();
    world.tools.lock().push(tool("crash", ToolAnnotations::new()));
    let hub = connect_test_hub(&world, &test_options()).await;
    let outcome = call(&catalog(&hub).await, "crash").await;
    assert_eq!(outcome.status, ToolStatus::Unknown);
    assert!(outcome.content.contains("lost the cluster half-way"), "{}", outcome.content);
    assert!(outcome.content.contains("Check the state before doing it again."), "{}", outcome.content);
    hub.close().await;
}

#[tokio::test]
async fn a_call_never_runs_on_another_server_that_has_come_to_have_a_tool_of_its_name() {
    let (prod, test) = (TestMcpServer::new(), TestMcpServer::new());
    test.tools.lock().clear();
    let hub = start_test_hub(&[("prod", &prod), ("test", &test)], &test_options());
    eventually("both are connected", || hub.all_connected()).await;
    let catalog = catalog(&hub).await;
    let class = catalog.classify("echo", &Map::new()).unwrap();
    // The name goes from one server to the other while the call waits for its approval.
    let moved = prod.tools.lock().remove(0);
    test.tools.lock().push(moved);
    hub.refresh_tools().await;
    assert_eq!(catalog.classify("echo", &Map::new()).unwrap().tool.server(), "test");
    let outcome = run(&catalog, &class).await;
    assert_eq!(outcome.status, ToolStatus::Error);
    assert_eq!(outcome.content, "The MCP server prod no longer has the tool echo. Nothing was run.");
    assert_eq!((prod.call_count("echo"), test.call_count("echo")), (0, 0));
    // A new name for the same tool is no other tool.
    let class = catalog.classify("fail", &Map::new()).unwrap();
    test.tools.lock().push(tool("fail", ToolAnnotations::new()));
    hub.refresh_tools().await;
    assert_eq!(catalog.classify("fail", &Map::new()), None);
    assert_eq!(run(&catalog, &class).await.content, "no such pod");
    assert_eq!((prod.call_count("fail"), test.call_count("fail")), (1, 0));
    hub.close().await;
}

#[tokio::test]
async fn a_call_does_not_run_when_its_effect_has_become_stricter() {
    let world = TestMcpServer::new();
    let hub = connect_test_hub(&world, &test_options()).await;
    let catalog = catalog(&hub).await;
    let [read, idempotent] = ["echo", "silent"].map(|name| catalog.classify(name, &Map::new()).unwrap());
    for (name, annotations) in
        [("echo", ToolAnnotations::new().destructive(true)), ("silent", ToolAnnotations::new().read_only(true))]
    {
        let mut tools = world.tools.lock();
        let old = tools.iter_mut().find(|t| t.name == name).unwrap();
        *old = tool(name, annotations);
    }
    hub.refresh_tools().await;
    let outcome = run(&catalog, &read).await;
    assert_eq!(outcome.status, ToolStatus::Error);
    assert!(outcome.content.contains("is mutating now and was read when"), "{}", outcome.content);
    assert!(outcome.content.ends_with("Nothing was run."), "{}", outcome.content);
    assert_eq!(world.call_count("echo"), 0);
    // One that has become milder runs.
    assert_eq!(run(&catalog, &idempotent).await.status, ToolStatus::Ok);
    hub.close().await;
}

#[tokio::test]
async fn the_whole_of_a_shortened_output_is_kept_and_read_by_our_own_tools() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let tools = catalog(&hub).await;
    let class = tools.classify("big", &Map::new()).unwrap();
    let id = ToolCallId::generate();
    let outcome = tools.tools.execute_call(&class, &Map::new(), site(&id)).await;
    assert!(outcome.truncated && outcome.content.contains(id.as_str()), "{}", outcome.content);
    let kept = tools.store.read_output(tools.session, &id, 0, 10).await.unwrap().unwrap();
    assert_eq!(kept.total, outcome.bytes);
    let read = json!({"call": id.as_str(), "from_line": 1, "lines": 1}).as_object().unwrap().clone();
    let class = tools.classify("read_output", &read).unwrap();
    assert_eq!((class.effect, class.approval), (ToolEffect::Read, ApprovalRequirement::NotRequired));
    let shown = tools.tools.execute_call(&class, &read, site(&ToolCallId::generate())).await;
    assert_eq!(shown.status, ToolStatus::Ok);
    assert!(!shown.content.is_empty() && shown.content.len() <= 4096 + 256, "{} bytes", shown.content.len());
    let nobodys = json!({"call": "call_x"}).as_object().unwrap().clone();
    let refused = tools.tools.execute_call(&class, &nobodys, site(&ToolCallId::generate())).await;
    assert_eq!(refused.status, ToolStatus::Error);
    hub.close().await;
}

#[tokio::test]
async fn what_a_session_has_seen_of_secrets_outlives_its_owner() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let tools = catalog(&hub).await;
    let user = contract::user("anna");
    let arguments = json!({"text": "password: s3cr3t-of-anna"}).as_object().unwrap().clone();
    let echo = tools.classify("echo", &arguments).unwrap();
    let shown = tools.tools.execute_call(&echo, &arguments, site(&ToolCallId::generate())).await.content;
    assert!(shown.contains("[secret:password:") && !shown.contains("s3cr3t"), "{shown}");
    let again = tools.toolbox.create_executor(tools.session, &user);
    let plain = json!({"text": "s3cr3t-of-anna"}).as_object().unwrap().clone();
    let shown = again.execute_call(&echo, &plain, site(&ToolCallId::generate())).await.content;
    assert!(!shown.contains("s3cr3t"), "{shown}");
    let elsewhere = tools.toolbox.create_executor(SessionId::new(), &user);
    let shown = elsewhere.execute_call(&echo, &plain, site(&ToolCallId::generate())).await.content;
    assert!(shown.contains("s3cr3t-of-anna"), "another session knows nothing of it: {shown}");
    hub.close().await;
}
