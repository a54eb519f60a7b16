use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::{
    CallError, DeadlineExceeded, ElicitationAnswer, ElicitationForm, ElicitationHandler, ElicitationRequest,
    McpCallContext, McpHub,
    test_server::{
        TEST_TIMEOUT, TestMcpServer, connect_test_hub, eventually, request_confirmation, test_call_context,
        test_options,
    },
};

/// A user who gives the same answer to every request, after a delay.
pub(super) struct ScriptedUser {
    answer: ElicitationAnswer,
    delay: Duration,
    pub(super) requests: Mutex<Vec<ElicitationRequest>>,
    /// Requests that were withdrawn before the answer.
    withdrawn: AtomicUsize,
}

impl ScriptedUser {
    pub(super) fn accepting(values: Value) -> Arc<Self> {
        Self::answering(accept(values), Duration::ZERO)
    }

    fn answering(answer: ElicitationAnswer, delay: Duration) -> Arc<Self> {
        Arc::new(Self { answer, delay, requests: Mutex::default(), withdrawn: AtomicUsize::new(0) })
    }

    /// The context of a call of this user.
    pub(super) fn call_context(self: &Arc<Self>, limit: Duration) -> McpCallContext {
        McpCallContext { elicitation_handler: Some(self.clone()), ..test_call_context(limit) }
    }
}

fn accept(values: Value) -> ElicitationAnswer {
    ElicitationAnswer::Accept(serde_json::from_value(values).unwrap())
}

/// Counts a withdrawn request when it is dropped before the answer.
struct PendingAnswer<'a> {
    withdrawn: &'a AtomicUsize,
    is_answered: bool,
}

impl Drop for PendingAnswer<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.withdrawn.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl ElicitationHandler for ScriptedUser {
    async fn handle_elicitation(&self, request: ElicitationRequest) -> ElicitationAnswer {
        self.requests.lock().push(request);
        let mut pending = PendingAnswer { withdrawn: &self.withdrawn, is_answered: false };
        tokio::time::sleep(self.delay).await;
        pending.is_answered = true;
        self.answer.clone()
    }
}

/// Calls the tool that asks for confirmation and returns what the server received.
async fn confirm(hub: &McpHub, context: McpCallContext) -> Result<Value, CallError> {
    let output = hub.call_tool("sim", "confirm", Map::new(), context).await?;
    Ok(serde_json::from_str(&output.text).unwrap())
}

#[tokio::test]
async fn answer_is_sent_with_defaults() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let user = ScriptedUser::accepting(json!({"sure": true}));
    let result = confirm(&hub, user.call_context(TEST_TIMEOUT)).await.unwrap();
    assert_eq!(result, json!({"action": "accept", "content": {"sure": true, "reason": "none given"}}));
    let requests = user.requests.lock().clone();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].message, "Delete the pod?");
    let ElicitationForm::Fields(schema) = &requests[0].form else { panic!("{requests:?}") };
    assert_eq!(schema["properties"]["sure"]["type"], "boolean");
    assert_eq!(schema["required"], json!(["sure"]));
    hub.close().await;
}

#[tokio::test]
async fn nonconforming_answers_are_cancelled() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    for (answer, action) in [
        (ElicitationAnswer::Decline, "decline"),
        (ElicitationAnswer::Cancel, "cancel"),
        (accept(json!({})), "cancel"),
        (accept(json!({"sure": "yes"})), "cancel"),
    ] {
        let user = ScriptedUser::answering(answer, Duration::ZERO);
        let result = confirm(&hub, user.call_context(TEST_TIMEOUT)).await;
        assert_eq!(result, Ok(json!({"action": action})));
    }
    hub.close().await;
}

#[tokio::test]
async fn elicitation_without_user_or_call_is_declined() {
    let server = TestMcpServer::new();
    let hub = connect_test_hub(&server, &test_options()).await;
    assert_eq!(confirm(&hub, test_call_context(TEST_TIMEOUT)).await, Ok(json!({"action": "decline"})));
    eventually("the server knows its client", || server.client_peer.lock().is_some()).await;
    let peer = server.client_peer.lock().clone().unwrap();
    assert_eq!(request_confirmation(&peer).await, json!({"action": "decline"}).to_string());
    hub.close().await;
}

#[tokio::test]
async fn user_may_take_longer_than_the_call() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let user = ScriptedUser::answering(ElicitationAnswer::Decline, Duration::from_millis(600));
    let result = confirm(&hub, user.call_context(Duration::from_millis(300))).await;
    assert_eq!(result, Ok(json!({"action": "decline"})));
    hub.close().await;
}

#[tokio::test]
async fn server_that_waits_for_a_user_stays_connected() {
    let server = TestMcpServer::new();
    let mut options = test_options();
    options.health_interval = Duration::from_millis(10);
    options.connect_timeout = Duration::from_millis(100);
    options.call_timeout = Duration::from_millis(100);
    let hub = connect_test_hub(&server, &options).await;
    let user = ScriptedUser::answering(ElicitationAnswer::Decline, Duration::from_millis(900));
    let running = tokio::spawn({
        let hub = hub.clone();
        let context = user.call_context(TEST_TIMEOUT);
        async move { confirm(&hub, context).await }
    });
    eventually("the user is asked", || !user.requests.lock().is_empty()).await;
    server.ignores_tool_listing.store(true, Ordering::SeqCst);
    assert_eq!(running.await.unwrap(), Ok(json!({"action": "decline"})));
    assert_eq!(server.connection_count.load(Ordering::SeqCst), 1);
    hub.close().await;
}

#[tokio::test]
async fn cancelled_or_broken_call_withdraws_its_elicitation() {
    let server = TestMcpServer::new();
    let hub = connect_test_hub(&server, &test_options()).await;
    for is_connection_cut in [false, true] {
        let user = ScriptedUser::answering(ElicitationAnswer::Decline, TEST_TIMEOUT);
        let running = tokio::spawn({
            let hub = hub.clone();
            let context = user.call_context(TEST_TIMEOUT);
            async move { confirm(&hub, context).await }
        });
        eventually("the user is asked", || !user.requests.lock().is_empty()).await;
        if is_connection_cut {
            server.cut_connection();
            assert!(matches!(running.await.unwrap(), Err(CallError::Broken(_))));
        } else {
            running.abort();
        }
        eventually("the request is withdrawn", || user.withdrawn.load(Ordering::SeqCst) == 1).await;
    }
    hub.close().await;
}

#[tokio::test]
async fn elicitation_goes_to_the_call_that_has_a_user() {
    let server = TestMcpServer::new();
    let hub = connect_test_hub(&server, &test_options()).await;
    let call_without_user = tokio::spawn({
        let hub = hub.clone();
        async move { hub.call_tool("sim", "hang", Map::new(), test_call_context(TEST_TIMEOUT)).await }
    });
    eventually("the call runs", || server.call_count("hang") == 1).await;
    let user = ScriptedUser::accepting(json!({"sure": false}));
    assert_eq!(confirm(&hub, user.call_context(TEST_TIMEOUT)).await.unwrap()["content"]["sure"], false);
    call_without_user.abort();
    hub.close().await;
}

#[tokio::test]
async fn call_without_progress_ends_at_its_idle_limit() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let idle = Duration::from_millis(60);
    let mut context = test_call_context(TEST_TIMEOUT);
    context.limits.idle = idle;
    let outcome = hub.call_tool("sim", "hang", Map::new(), context).await;
    assert_eq!(outcome, Err(CallError::Timeout(DeadlineExceeded::Idle(idle))));
    hub.close().await;
}
