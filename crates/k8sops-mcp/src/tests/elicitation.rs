use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::http::{hub_on, new_server, result, serve};
use crate::{
    CallError, DeadlineExceeded, ElicitationAnswer, ElicitationForm, ElicitationHandler, ElicitationRequest,
    McpCallContext, McpHub,
    test_server::{
        TEST_TIMEOUT, TestMcpServer, connect_test_hub, eventually, request_confirmation, test_call_context,
        test_options,
    },
};

/// A user who answers always the same, and takes their time.
pub(super) struct User {
    answer: ElicitationAnswer,
    thinks: Duration,
    pub(super) asked: Mutex<Vec<ElicitationRequest>>,
    withdrawn: AtomicUsize,
}

impl User {
    pub(super) fn who_says(values: Value) -> Arc<Self> {
        Self::who(ElicitationAnswer::Accept(serde_json::from_value(values).unwrap()), Duration::ZERO)
    }

    fn who(answer: ElicitationAnswer, thinks: Duration) -> Arc<Self> {
        Arc::new(Self { answer, thinks, asked: Mutex::default(), withdrawn: AtomicUsize::new(0) })
    }
}

/// Counts, when dropped, that nobody waited for the answer.
struct Waiting<'a>(&'a AtomicUsize, bool);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(usize::from(!self.1), Ordering::SeqCst);
    }
}

#[async_trait]
impl ElicitationHandler for User {
    async fn handle_elicitation(&self, question: ElicitationRequest) -> ElicitationAnswer {
        self.asked.lock().unwrap().push(question);
        let mut waiting = Waiting(&self.withdrawn, false);
        tokio::time::sleep(self.thinks).await;
        waiting.1 = true;
        self.answer.clone()
    }
}

fn asking(user: &Arc<User>, limit: Duration) -> McpCallContext {
    McpCallContext { elicitation_handler: Some(user.clone()), ..test_call_context(limit) }
}

async fn confirmed(hub: &McpHub, context: McpCallContext) -> Result<Value, CallError> {
    let output = hub.call_tool("sim", "confirm", Map::new(), context).await?;
    Ok(serde_json::from_str(&output.text).unwrap())
}

#[tokio::test]
async fn a_question_in_a_call_goes_to_its_user_and_the_answer_back_with_defaults() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let user = User::who_says(json!({"sure": true}));
    let answer = confirmed(&hub, asking(&user, TEST_TIMEOUT)).await.unwrap();
    assert_eq!(answer, json!({"action": "accept", "content": {"sure": true, "reason": "none given"}}));
    let asked = user.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].message, "Delete the pod?");
    let ElicitationForm::Fields(schema) = &asked[0].form else { panic!("{asked:?}") };
    assert_eq!(schema["properties"]["sure"]["type"], "boolean");
    assert_eq!(schema["required"], json!(["sure"]));
    hub.close().await;
}

#[tokio::test]
async fn what_the_user_does_not_want_and_what_does_not_fit_is_no_yes() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    for (answer, action) in [
        (ElicitationAnswer::Decline, "decline"),
        (ElicitationAnswer::Cancel, "cancel"),
        (ElicitationAnswer::Accept(Map::new()), "cancel"),
        (ElicitationAnswer::Accept(serde_json::from_value(json!({"sure": "yes"})).unwrap()), "cancel"),
    ] {
        let user = User::who(answer, Duration::ZERO);
        assert_eq!(confirmed(&hub, asking(&user, TEST_TIMEOUT)).await.unwrap(), json!({"action": action}));
    }
    hub.close().await;
}

#[tokio::test]
async fn without_anybody_to_ask_a_question_is_declined() {
    let world = TestMcpServer::new();
    let hub = connect_test_hub(&world, &test_options()).await;
    assert_eq!(confirmed(&hub, test_call_context(TEST_TIMEOUT)).await.unwrap(), json!({"action": "decline"}));
    // And one outside of any call.
    eventually("the server knows its client", || world.client_peer.lock().unwrap().is_some()).await;
    let peer = world.client_peer.lock().unwrap().clone().unwrap();
    assert_eq!(request_confirmation(&peer).await, json!({"action": "decline"}).to_string());
    hub.close().await;
}

#[tokio::test]
async fn a_user_may_think_for_longer_than_the_call_may_take() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let user = User::who(ElicitationAnswer::Decline, Duration::from_millis(600));
    let answer = confirmed(&hub, asking(&user, Duration::from_millis(300))).await;
    assert_eq!(answer, Ok(json!({"action": "decline"})));
    hub.close().await;
}

#[tokio::test]
async fn a_server_that_waits_for_a_user_is_not_taken_for_dead() {
    let world = TestMcpServer::new();
    let mut config = test_options();
    config.health_interval = Duration::from_millis(10);
    (config.connect_timeout, config.call_timeout) = (Duration::from_millis(100), Duration::from_millis(100));
    let hub = connect_test_hub(&world, &config).await;
    let user = User::who(ElicitationAnswer::Decline, Duration::from_millis(900));
    let running = tokio::spawn({
        let (hub, context) = (hub.clone(), asking(&user, TEST_TIMEOUT));
        async move { confirmed(&hub, context).await }
    });
    eventually("the user is asked", || !user.asked.lock().unwrap().is_empty()).await;
    world.ignores_tool_listing.store(true, Ordering::SeqCst);
    assert_eq!(running.await.unwrap(), Ok(json!({"action": "decline"})));
    assert_eq!(world.connection_count.load(Ordering::SeqCst), 1);
    hub.close().await;
}

#[tokio::test]
async fn a_call_that_is_given_up_or_breaks_takes_its_question_back() {
    let world = TestMcpServer::new();
    let hub = connect_test_hub(&world, &test_options()).await;
    for broken in [false, true] {
        let user = User::who(ElicitationAnswer::Decline, TEST_TIMEOUT);
        let running = tokio::spawn({
            let (hub, context) = (hub.clone(), asking(&user, TEST_TIMEOUT));
            async move { confirmed(&hub, context).await }
        });
        eventually("the user is asked", || !user.asked.lock().unwrap().is_empty()).await;
        if broken {
            world.cut_connection();
            assert!(matches!(running.await.unwrap(), Err(CallError::Broken(_))));
        } else {
            running.abort();
        }
        eventually("it is withdrawn", || user.withdrawn.load(Ordering::SeqCst) == 1).await;
    }
    hub.close().await;
}

#[tokio::test]
async fn of_several_calls_the_one_with_somebody_to_ask_is_asked() {
    let world = TestMcpServer::new();
    let hub = connect_test_hub(&world, &test_options()).await;
    let unwatched_call = tokio::spawn({
        let hub = hub.clone();
        async move { hub.call_tool("sim", "hang", Map::new(), test_call_context(TEST_TIMEOUT)).await }
    });
    eventually("it runs", || world.call_count("hang") == 1).await;
    let user = User::who_says(json!({"sure": false}));
    assert_eq!(confirmed(&hub, asking(&user, TEST_TIMEOUT)).await.unwrap()["content"]["sure"], false);
    unwatched_call.abort();
    hub.close().await;
}

/// A server of 2026 that wants `rounds` answers before it does anything, and what it was sent.
async fn wants_input(rounds: usize, request: Value) -> (Arc<McpHub>, Arc<Mutex<Vec<(Value, Value)>>>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = calls.clone();
    let address = serve(move |asked| {
        if asked.method != "tools/call" {
            return new_server(asked);
        }
        let mut seen = seen.lock().unwrap();
        seen.push((asked.id.clone(), asked.params.clone()));
        if seen.len() > rounds {
            return new_server(asked);
        }
        let mut required = json!({"resultType": "input_required", "requestState": format!("state {}", seen.len())});
        if !request.is_null() {
            required["inputRequests"] = json!({"sure": request});
        }
        result(asked, &required)
    })
    .await;
    let hub = hub_on(address);
    eventually("the server is connected", || hub.all_connected()).await;
    (hub, calls)
}

fn form() -> Value {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "default": 3}}});
    json!({"method": "elicitation/create", "params": {"mode": "form", "message": "How many?", "requestedSchema": schema}})
}

#[tokio::test]
async fn a_call_that_requires_input_is_sent_again_with_the_answers_and_the_state_as_it_was() {
    let (hub, calls) = wants_input(2, form()).await;
    let user = User::who_says(json!({}));
    let arguments = Map::from_iter([("pod".to_owned(), json!("web"))]);
    let output = hub.call_tool("web", "t", arguments, asking(&user, TEST_TIMEOUT)).await.unwrap();
    assert_eq!(output.text, "fine");
    assert_eq!(user.asked.lock().unwrap().len(), 2);
    let calls = calls.lock().unwrap().clone();
    assert_eq!(calls.len(), 3);
    assert!(calls[0].0 != calls[1].0 && calls[1].0 != calls[2].0, "each has an id of its own: {calls:?}");
    assert!(calls.iter().all(|(_, params)| params["arguments"] == json!({"pod": "web"}) && params["name"] == "t"));
    assert_eq!((&calls[0].1["inputResponses"], &calls[0].1["requestState"]), (&Value::Null, &Value::Null));
    for (n, (_, params)) in calls.iter().enumerate().skip(1) {
        assert_eq!(params["requestState"], format!("state {n}"));
        assert_eq!(params["inputResponses"], json!({"sure": {"action": "accept", "content": {"n": 3}}}));
    }
    // What can be answered is declared with every request.
    let meta = &calls[0].1["_meta"]["io.modelcontextprotocol/clientCapabilities"];
    assert!(meta["elicitation"]["form"].is_object() && meta["elicitation"]["url"].is_object(), "{meta}");
    assert_eq!((meta.get("sampling"), meta.get("roots")), (None, None));
    hub.close().await;
}

#[tokio::test]
async fn required_input_is_declined_when_there_is_nobody_to_ask() {
    let (hub, calls) = wants_input(1, form()).await;
    assert!(hub.call_tool("web", "t", Map::new(), test_call_context(TEST_TIMEOUT)).await.is_ok());
    assert_eq!(calls.lock().unwrap()[1].1["inputResponses"], json!({"sure": {"action": "decline"}}));
    hub.close().await;
}

#[tokio::test]
async fn a_tool_that_never_has_enough_input_is_given_up() {
    let (hub, calls) = wants_input(usize::MAX, form()).await;
    let outcome = hub.call_tool("web", "t", Map::new(), test_call_context(TEST_TIMEOUT)).await;
    assert!(matches!(&outcome, Err(CallError::Failed(why)) if why.contains("more than 10 times")), "{outcome:?}");
    assert_eq!(calls.lock().unwrap().len(), 11);
    hub.close().await;
}

#[tokio::test]
async fn a_tool_that_only_wants_to_be_asked_later_is_asked_later() {
    let (hub, calls) = wants_input(1, Value::Null).await;
    assert!(hub.call_tool("web", "t", Map::new(), test_call_context(TEST_TIMEOUT)).await.is_ok());
    assert_eq!(calls.lock().unwrap()[1].1["requestState"], "state 1");
    hub.close().await;
}

#[tokio::test]
async fn a_tool_that_wants_a_model_of_ours_fails() {
    let sampling = json!({"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 5}});
    let (hub, calls) = wants_input(1, sampling).await;
    let outcome = hub.call_tool("web", "t", Map::new(), test_call_context(TEST_TIMEOUT)).await;
    assert!(matches!(&outcome, Err(CallError::Failed(_))), "{outcome:?}");
    assert_eq!(calls.lock().unwrap().len(), 1);
    hub.close().await;
}

#[tokio::test]
async fn a_call_without_progress_ends_at_its_idle_limit() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let idle = Duration::from_millis(60);
    let mut context = test_call_context(TEST_TIMEOUT);
    context.limits.idle = idle;
    let outcome = hub.call_tool("sim", "hang", Map::new(), context).await;
    assert_eq!(outcome, Err(CallError::Timeout(DeadlineExceeded::Idle(idle))));
    hub.close().await;
}
