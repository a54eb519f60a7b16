//! Tools of servers in this process.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rmcp::model::ToolAnnotations;
use serde_json::{Map, Value, json};

use super::{
    ApprovalRequirement, ClassifiedCall, ElicitationAnswer, ElicitationHandler, ElicitationRequest, SessionToolFactory,
    ToolCallContext, ToolCatalog, ToolExecutor, ToolExecutorFactory, ToolGate, ToolOutcome, UntrustedWord, UserTokens,
};
use crate::{ApprovalMode, ToolOptions, output::OutputBudget, output_tools::run_output_tool};
use k8sops_core::{
    AssistantMessage, ChatMessage, MessageId, OutputStore, SessionId, StopReason, Timestamp, TokenUsage, ToolCall,
    ToolCallId, ToolEffect, ToolMessage, ToolStatus,
};
use k8sops_mcp::{
    CallLimits, McpHub,
    test_server::{TestMcpServer, connect_test_hub, eventually, start_test_hub, test_options, tool},
};
use k8sops_models::{FoundTools, ToolSpec};
use k8sops_store::{InMemoryStore, contract};

fn policy(approval: ApprovalMode) -> ToolOptions {
    ToolOptions {
        approval,
        approval_by: crate::ApprovalBy::Owner,
        approve_untrusted: false,
        rules: Vec::new(),
        approval_ttl: Duration::from_hours(1),
        max_schema_tokens: 10_000,
        server_schema_tokens: 1_000,
        max_output_bytes: 4096,
        max_output_tokens: 8000,
        max_output_share: 10,
        keep_output_bytes: 2 << 20,
    }
}

/// The tools of a session, over the catalog of a hub.
struct SessionFixture {
    catalog: Arc<ToolCatalog>,
    factory: SessionToolFactory,
    tools: Arc<dyn ToolExecutor>,
    store: Arc<InMemoryStore>,
    session: SessionId,
}

impl SessionFixture {
    async fn new(hub: &Arc<McpHub>, config: ToolOptions) -> Self {
        let catalog = Arc::new(ToolCatalog::new(hub.clone(), &config, k8sops_models::ToolBounds::default()));
        let store = Arc::new(InMemoryStore::default());
        let session = contract::create_test_session(store.as_ref()).await;
        let limits = CallLimits::uniform(Duration::from_secs(10));
        let factory = SessionToolFactory::new(
            catalog.clone(),
            hub.clone(),
            store.clone(),
            store.clone(),
            limits,
            UserTokens::default(),
            config,
        );
        let tools = factory.create_executor(session, &contract::test_user("anna"));
        Self { catalog, factory, tools, store, session }
    }

    fn classify(&self, name: &str) -> Option<ClassifiedCall> {
        self.classify_with(name, &Map::new())
    }

    fn classify_with(&self, name: &str, arguments: &Map<String, Value>) -> Option<ClassifiedCall> {
        self.tools.classify_call(name, arguments, None)
    }
}

struct CancellingHandler;

#[async_trait]
impl ElicitationHandler for CancellingHandler {
    async fn handle_elicitation(&self, _: ElicitationRequest) -> ElicitationAnswer {
        ElicitationAnswer::Cancel
    }
}

async fn open_session(hub: &Arc<McpHub>) -> SessionFixture {
    SessionFixture::new(hub, policy(ApprovalMode::Ask)).await
}

async fn call(session: &SessionFixture, name: &str) -> ToolOutcome {
    let call = session.classify(name).expect("a tool of that name");
    execute(session, &call).await
}

fn context(id: &ToolCallId) -> ToolCallContext {
    ToolCallContext {
        id: id.clone(),
        progress: Arc::new(|_| {}),
        elicitation_handler: Arc::new(CancellingHandler),
        context_window: None,
    }
}

async fn execute(session: &SessionFixture, call: &ClassifiedCall) -> ToolOutcome {
    session.tools.execute_call(call, &Map::new(), context(&ToolCallId::generate())).await
}

#[tokio::test]
async fn new_servers_are_introduced_with_their_words() {
    let server = TestMcpServer::new();
    *server.instructions.lock() = Some("Call echo first.".to_owned());
    let hub = connect_test_hub(&server, &test_options()).await;
    let session = open_session(&hub).await;
    let introduced = session.tools.introduce_servers(&[]).await;
    assert_eq!(introduced.len(), 1);
    assert_eq!(introduced[0].server, "sim");
    assert_eq!(introduced[0].instructions.as_deref(), Some("Call echo first."));
    assert!(introduced[0].program.is_some() && introduced[0].version.is_some(), "{introduced:?}");
    assert!(session.tools.introduce_servers(&introduced).await.is_empty());
}

#[tokio::test]
async fn tool_specs_are_sorted_and_cached() {
    let server = TestMcpServer::new();
    let hub = connect_test_hub(&server, &test_options()).await;
    let session = open_session(&hub).await;
    let specs = session.tools.tool_specs(&[]);
    assert_eq!(
        specs.iter().map(|s| &*s.name).collect::<Vec<_>>(),
        ["big", "echo", "fail", "hang", "read_output", "search_output", "silent", "steps"]
    );
    assert!(Arc::ptr_eq(&specs, &session.tools.tool_specs(&[])));
    assert_eq!(specs[0].input_schema.get("properties"), Some(&json!({})));
    server.tools.lock().truncate(2);
    hub.refresh_tools().await;
    assert_eq!(session.tools.tool_specs(&[]).len(), 4);
    hub.close().await;
}

#[tokio::test]
async fn shared_tool_names_get_their_server_as_prefix() {
    let prod = TestMcpServer::new();
    let test = TestMcpServer::new();
    test.tools.lock().truncate(1);
    let hub = start_test_hub(&[("prod", &prod), ("test", &test)], &test_options());
    eventually("both are connected", || hub.all_connected()).await;
    let session = open_session(&hub).await;
    assert!(session.classify("echo").is_none());
    assert_eq!(call(&session, "test_echo").await.status, ToolStatus::Ok);
    assert_eq!((prod.call_count("echo"), test.call_count("echo")), (0, 1));
    let infos = session.catalog.list_tools();
    let info = infos.iter().find(|i| i.name == "prod_echo").unwrap();
    assert_eq!((info.server.as_str(), info.remote_name.as_str()), ("prod", "echo"));
    hub.close().await;
}

#[tokio::test]
async fn approval_follows_effect_and_policy() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let word = UntrustedWord { word: "billing".into(), source: "the output of echo".into() };
    for (approval, gate) in [
        (ApprovalMode::Ask, ToolGate::Ask),
        (ApprovalMode::Auto, ToolGate::Trusted),
        (ApprovalMode::Deny, ToolGate::Deny),
    ] {
        let session = SessionFixture::new(&hub, policy(approval)).await;
        let read = session.classify("echo").unwrap();
        assert_eq!((read.effect, read.approval), (ToolEffect::Read, ApprovalRequirement::Run));
        let mutating = session.tools.classify_call("hang", &Map::new(), Some(&word)).unwrap();
        let reason = "no annotation by server sim: treated as mutating";
        assert_eq!((mutating.effect, mutating.reason.as_str()), (ToolEffect::Mutating, reason));
        match (approval, &mutating.approval) {
            (ApprovalMode::Ask, ApprovalRequirement::Ask { reason: shown }) => assert_eq!(shown, reason),
            (ApprovalMode::Auto, ApprovalRequirement::Ask { reason: shown }) => assert!(shown.contains("billing")),
            (ApprovalMode::Deny, ApprovalRequirement::Deny { reason: shown }) => assert!(shown.contains(reason)),
            other => panic!("{other:?}"),
        }
        let infos = session.catalog.list_tools();
        assert_eq!(infos.iter().find(|info| info.name == "hang").unwrap().gate, gate);
        assert_eq!(session.classify("silent").unwrap().effect, ToolEffect::Idempotent);
    }
    hub.close().await;
}

#[tokio::test]
async fn long_output_is_truncated_to_the_budget() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let outcome = call(&open_session(&hub).await, "big").await;
    assert_eq!((outcome.status, outcome.truncated, outcome.bytes), (ToolStatus::Ok, true, 1024 * 1024));
    assert!(outcome.content.len() <= 4096);
    assert!(outcome.content.contains("65536 lines of 1 kinds"), "{}", outcome.content);
    hub.close().await;
}

#[tokio::test]
async fn failures_are_explained_to_the_model() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let session = open_session(&hub).await;
    let failed = call(&session, "fail").await;
    assert_eq!((failed.status, failed.content.as_str()), (ToolStatus::Error, "no such pod"));
    assert_eq!(session.classify("nothing"), None);
    assert_eq!(call(&session, "silent").await.content, "(no output)");
    hub.close().await;
    let away = call(&session, "echo").await;
    assert_eq!(away.status, ToolStatus::Error);
    assert!(away.content.starts_with("The tool was not run: "), "{}", away.content);
}

#[tokio::test]
async fn mutating_call_on_broken_connection_is_unknown() {
    let server = TestMcpServer::new();
    let hub = connect_test_hub(&server, &test_options()).await;
    let running = tokio::spawn({
        let session = open_session(&hub).await;
        async move { call(&session, "hang").await }
    });
    eventually("the call runs", || server.call_count("hang") == 1).await;
    server.cut_connection();
    let outcome = running.await.unwrap();
    assert_eq!(outcome.status, ToolStatus::Unknown);
    assert!(outcome.content.contains("Check the state before you repeat the call."), "{}", outcome.content);
    hub.close().await;
}

#[tokio::test]
async fn mutating_call_with_server_error_is_unknown() {
    let server = TestMcpServer::new();
    server.tools.lock().push(tool("crash", ToolAnnotations::new()));
    let hub = connect_test_hub(&server, &test_options()).await;
    let outcome = call(&open_session(&hub).await, "crash").await;
    assert_eq!(outcome.status, ToolStatus::Unknown);
    assert!(outcome.content.contains("lost the cluster half-way"), "{}", outcome.content);
    assert!(outcome.content.contains("Check the state before you repeat the call."), "{}", outcome.content);
    hub.close().await;
}

#[tokio::test]
async fn approved_call_never_runs_on_another_server() {
    let prod = TestMcpServer::new();
    let test = TestMcpServer::new();
    test.tools.lock().clear();
    let hub = start_test_hub(&[("prod", &prod), ("test", &test)], &test_options());
    eventually("both are connected", || hub.all_connected()).await;
    let session = open_session(&hub).await;
    let call = session.classify("echo").unwrap();
    // The tool moves to the other server while the call waits for its approval.
    let moved = prod.tools.lock().remove(0);
    test.tools.lock().push(moved);
    hub.refresh_tools().await;
    assert_eq!(session.classify("echo").unwrap().tool.server(), "test");
    let outcome = execute(&session, &call).await;
    assert_eq!(outcome.status, ToolStatus::Error);
    assert_eq!(outcome.content, "The MCP server prod no longer has the tool echo. The call was not run.");
    assert_eq!((prod.call_count("echo"), test.call_count("echo")), (0, 0));
    // Another name of the same tool does not make it another tool.
    let call = session.classify("fail").unwrap();
    test.tools.lock().push(tool("fail", ToolAnnotations::new()));
    hub.refresh_tools().await;
    assert_eq!(session.classify("fail"), None);
    assert_eq!(execute(&session, &call).await.content, "no such pod");
    assert_eq!((prod.call_count("fail"), test.call_count("fail")), (1, 0));
    hub.close().await;
}

#[tokio::test]
async fn approved_call_does_not_run_if_it_became_stricter() {
    let server = TestMcpServer::new();
    let hub = connect_test_hub(&server, &test_options()).await;
    let session = open_session(&hub).await;
    let [read, idempotent] = ["echo", "silent"].map(|name| session.classify(name).unwrap());
    for (name, annotations) in
        [("echo", ToolAnnotations::new().destructive(true)), ("silent", ToolAnnotations::new().read_only(true))]
    {
        let mut tools = server.tools.lock();
        let old = tools.iter_mut().find(|t| t.name == name).unwrap();
        *old = tool(name, annotations);
    }
    hub.refresh_tools().await;
    let outcome = execute(&session, &read).await;
    assert_eq!(outcome.status, ToolStatus::Error);
    assert!(outcome.content.contains("is mutating now and was read when"), "{}", outcome.content);
    assert!(outcome.content.ends_with("The call was not run."), "{}", outcome.content);
    assert_eq!(server.call_count("echo"), 0);
    // A call that became less strict runs.
    assert_eq!(execute(&session, &idempotent).await.status, ToolStatus::Ok);
    hub.close().await;
}

#[tokio::test]
async fn output_tools_read_the_truncated_output() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let session = open_session(&hub).await;
    let call = session.classify("big").unwrap();
    let id = ToolCallId::generate();
    let outcome = session.tools.execute_call(&call, &Map::new(), context(&id)).await;
    assert!(outcome.truncated && outcome.content.contains(id.as_str()), "{}", outcome.content);
    let kept = session.store.read_output(session.session, &id, 0, 10).await.unwrap().unwrap();
    assert_eq!(kept.total, outcome.bytes);
    let read = json!({"call": id.as_str(), "from_line": 1, "lines": 1}).as_object().unwrap().clone();
    let call = session.classify_with("read_output", &read).unwrap();
    assert_eq!((call.effect, &call.approval), (ToolEffect::Read, &ApprovalRequirement::Run));
    let shown = session.tools.execute_call(&call, &read, context(&ToolCallId::generate())).await;
    assert_eq!(shown.status, ToolStatus::Ok);
    assert!(!shown.content.is_empty() && shown.content.len() <= 4096 + 256, "{} bytes", shown.content.len());
    assert!(!shown.content.contains("missing"), "{}", shown.content);
    // A store with room for less keeps the beginning.
    let store = session.store.as_ref();
    let budget = OutputBudget { tokens: 100, bytes: 400 };
    let kept_bytes = usize::try_from(kept.total).unwrap();
    let cut = run_output_tool(store, store, session.session, "read_output", &read, budget, kept_bytes).await.unwrap();
    assert!(cut.contains("the end of this output is missing") && budget.allows(&cut), "{cut}");
    let nobodys = json!({"call": "call_x"}).as_object().unwrap().clone();
    let refused = session.tools.execute_call(&call, &nobodys, context(&ToolCallId::generate())).await;
    assert_eq!(refused.status, ToolStatus::Error);
    hub.close().await;
}

#[tokio::test]
async fn known_secrets_outlive_the_executor() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let session = open_session(&hub).await;
    let user = contract::test_user("anna");
    let arguments =
        json!({"text": "kind: Secret\nstringData:\n  password: s3cr3t-of-anna"}).as_object().unwrap().clone();
    let echo = session.classify_with("echo", &arguments).unwrap();
    let shown = session.tools.execute_call(&echo, &arguments, context(&ToolCallId::generate())).await.content;
    assert!(shown.contains("[secret:password:") && !shown.contains("s3cr3t"), "{shown}");
    let again = session.factory.create_executor(session.session, &user);
    let plain = json!({"text": "s3cr3t-of-anna"}).as_object().unwrap().clone();
    let shown = again.execute_call(&echo, &plain, context(&ToolCallId::generate())).await.content;
    assert!(!shown.contains("s3cr3t"), "{shown}");
    let elsewhere = session.factory.create_executor(SessionId::new(), &user);
    let shown = elsewhere.execute_call(&echo, &plain, context(&ToolCallId::generate())).await.content;
    assert!(shown.contains("s3cr3t-of-anna"), "redacted in another session: {shown}");
    hub.close().await;
}

/// Returns a conversation in which a tool was called.
fn conversation_with_call(name: &str, content: &str) -> Vec<Arc<ChatMessage>> {
    let id: ToolCallId = "call_1".parse().expect("an id");
    let call = ToolCall { id: id.clone(), name: name.to_owned(), arguments: json!({}) };
    let reply = AssistantMessage {
        message_id: MessageId::new(),
        seq: 1,
        ts: Timestamp::now(),
        run_id: None,
        content: String::new(),
        reasoning: None,
        tool_calls: vec![call],
        citations: Vec::new(),
        stop_reason: StopReason::ToolUse,
        provider: None,
        model: None,
        provider_data: None,
        usage: TokenUsage::default(),
        feedback: None,
    };
    let result = ToolMessage {
        tool_call_id: id,
        seq: 2,
        ts: Timestamp::now(),
        number: 1,
        name: name.to_owned(),
        status: ToolStatus::Ok,
        content: content.to_owned(),
    };
    vec![Arc::new(ChatMessage::Assistant(reply)), Arc::new(ChatMessage::Tool(result))]
}

#[tokio::test]
async fn tools_beyond_the_budget_are_found_by_a_search() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let small = ToolOptions { max_schema_tokens: 1, ..policy(ApprovalMode::Ask) };
    let session = SessionFixture::new(&hub, small).await;
    let names = |session: &SessionFixture| {
        session.tools.tool_specs(&[]).iter().map(|spec| spec.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&session), ["find_tools", "read_output", "search_output"]);
    let arguments = json!({"query": "echo"});
    let arguments = arguments.as_object().expect("an object");
    let search = session.classify_with("find_tools", arguments).expect("a built-in tool");
    assert_eq!(search.approval, ApprovalRequirement::Run);
    let found = session.tools.execute_call(&search, arguments, context(&ToolCallId::generate())).await;
    assert!(found.content.contains("### echo"), "{}", found.content);
    assert_eq!(call(&session, "echo").await.status, ToolStatus::Ok, "a found tool can be called at once");
    assert_eq!(names(&session).len(), 3, "the list stays the same within a run");
    let loaded = |name: &str, content: &str| session.tools.found_tools(&conversation_with_call(name, content));
    let echo: Vec<ToolSpec> = session.catalog.hidden_specs().into_iter().filter(|spec| spec.name == "echo").collect();
    let expected: FoundTools = [("call_1".parse().expect("an id"), echo)].into_iter().collect();
    assert_eq!(loaded("find_tools", &found.content), expected);
    let gone = "### echo\n### no_longer_there\n### read_output";
    assert_eq!(loaded("find_tools", gone), expected, "what is gone or always listed is not loaded");
    assert_eq!(loaded("pods_log", &found.content), FoundTools::default(), "an output of another tool finds nothing");
    let infos = session.catalog.list_tools();
    let echo = infos.iter().find(|info| info.name == "echo").expect("the API lists all tools");
    assert_eq!(echo.offer, crate::ToolOffer::OnSearch);
    hub.close().await;
}

#[tokio::test]
async fn tool_that_can_never_run_is_not_offered() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let session = SessionFixture::new(&hub, policy(ApprovalMode::Deny)).await;
    let names: Vec<String> = session.tools.tool_specs(&[]).iter().map(|spec| spec.name.clone()).collect();
    assert!(names.contains(&"echo".to_owned()) && !names.contains(&"hang".to_owned()), "{names:?}");
    session.catalog.set_policy(&policy(ApprovalMode::Ask));
    assert!(session.tools.tool_specs(&[]).iter().any(|spec| spec.name == "hang"), "a reload offers it");
    hub.close().await;
}
