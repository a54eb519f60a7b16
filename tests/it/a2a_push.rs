//! Push notifications of the A2A door.

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    clients::run_in_folder,
    door_clients::CLIENTS,
    notification_receiver::NotificationReceiver,
    program::TestProgram,
    service::{ServiceSetup, TestService},
};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    eventually,
    provider::{FakeProviders, ProviderApi},
    redis::{RedisFlavor, RedisServer},
    scripted_model::{ReplyStep, ScriptedModel, call, text},
    testbed,
};

/// Starts a service that may send notifications to this machine.
async fn start_service(replies: Vec<Vec<ReplyStep>>, env: Vec<(&'static str, String)>) -> TestService {
    let env = [vec![("K8SOPS_NOTIFY_ALLOW", "http://127.0.0.1,hooks.example.com".to_owned())], env].concat();
    let tools = CountingMcpServer::new();
    let setup = ServiceSetup {
        env,
        model: Some(ScriptedModel::new(replies)),
        servers: vec![tools.connector()],
        ..ServiceSetup::default()
    };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    service
}

fn message(id: &str, text: &str, push: &Value) -> Value {
    json!({"message": {"messageId": id, "role": "ROLE_USER", "contextId": "c", "parts": [{"text": text}]},
        "configuration": {"taskPushNotificationConfig": push}})
}

async fn send(service: &TestService, body: Value) -> Value {
    service.post("/a2a/v1/message:send", body).await["task"].take()
}

async fn call_rpc(service: &TestService, method: &str, params: Value) -> Value {
    service.post("/a2a", json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_a_task_is_posted_in_order() {
    let receiver = NotificationReceiver::start(200).await;
    let replies = vec![vec![text("I look. "), call("look", json!({}))], vec![text("All is well.")]];
    let service = start_service(replies, Vec::new()).await;
    let push = json!({"id": "p", "url": receiver.url, "token": "t0ken",
        "authentication": {"scheme": "Bearer", "credentials": "s3cret"}});
    let task = send(&service, message("m", "how is it?", &push)).await;
    eventually("the end is posted", async || {
        receiver.described_updates().last().is_some_and(|told| told == "TASK_STATE_COMPLETED")
    })
    .await;
    assert_eq!(
        receiver.described_updates(),
        ["TASK_STATE_WORKING", "I look. ", "TASK_STATE_WORKING", "All is well.", "TASK_STATE_COMPLETED"]
    );
    for received in receiver.accepted() {
        for header in
            ["content-type: application/a2a+json", "x-a2a-notification-token: t0ken", "authorization: Bearer s3cret"]
        {
            assert!(received.head.lines().any(|line| line == header), "{header}: {}", received.head);
        }
        let update = received.body.as_object().unwrap().values().next().unwrap();
        assert_eq!((&update["taskId"], &update["contextId"]), (&task["id"], &json!("c")));
    }
    // The session has none of it.
    let session = task["metadata"]["k8sops"]["sessionId"].as_str().unwrap().to_owned();
    let exported = service.get(&format!("/v1/sessions/{session}/export?format=json")).await.to_string();
    assert!(!exported.contains("s3cret") && !exported.contains(&receiver.url), "{exported}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_is_posted_and_the_rest_after_it() {
    let receiver = NotificationReceiver::start(200).await;
    let replies = vec![vec![call("change", json!({}))], vec![text("Changed.")]];
    let service = start_service(replies, Vec::new()).await;
    let task = send(&service, message("m", "change it", &json!({"url": receiver.url}))).await;
    assert_eq!(task["status"]["state"], "TASK_STATE_INPUT_REQUIRED");
    eventually("the approval is posted", async || {
        receiver.described_updates().last().is_some_and(|told| told == "TASK_STATE_INPUT_REQUIRED")
    })
    .await;
    let asked = task["status"]["message"]["parts"][0]["text"].as_str().unwrap();
    let words = asked.split('`').find(|part| part.starts_with("approve ")).unwrap_or_else(|| panic!("{asked}"));
    let answer =
        json!({"message": {"messageId": "a", "role": "ROLE_USER", "taskId": task["id"], "parts": [{"text": words}]}});
    assert_eq!(send(&service, answer).await["status"]["state"], "TASK_STATE_COMPLETED");
    eventually("the end is posted", async || {
        receiver.described_updates().last().is_some_and(|told| told == "TASK_STATE_COMPLETED")
    })
    .await;
    assert!(receiver.described_updates().contains(&"Changed.".to_owned()), "{:?}", receiver.described_updates());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_are_made_listed_and_deleted_over_both_bindings() {
    let service = start_service(vec![vec![text("Hello.")]], Vec::new()).await;
    let card = service.get("/.well-known/agent-card.json").await;
    assert_eq!(card["capabilities"]["pushNotifications"], true);
    let task = send(&service, message("m", "hi", &Value::Null)).await;
    let id = task["id"].as_str().unwrap();
    let path = format!("/a2a/v1/tasks/{id}/pushNotificationConfigs");
    let authentication = json!({"scheme": "Bearer", "credentials": "s3cret"});
    let over_http = service
        .post(&path, json!({"id": "h", "url": "https://hooks.example.com/h", "authentication": authentication}))
        .await;
    let without_credentials =
        json!({"id": "h", "taskId": id, "url": "https://hooks.example.com/h", "authentication": {"scheme": "Bearer"}});
    assert_eq!(over_http, without_credentials);
    let params = json!({"taskId": id, "url": "https://hooks.example.com/r", "token": "t"});
    let over_rpc = call_rpc(&service, "CreateTaskPushNotificationConfig", params).await;
    // Without an id it is that of the task.
    let expected = json!({"id": id, "taskId": id, "url": "https://hooks.example.com/r", "token": "t"});
    assert_eq!(over_rpc["result"], expected);
    let listed = call_rpc(&service, "ListTaskPushNotificationConfigs", json!({"taskId": id})).await["result"].take();
    assert_eq!(listed, service.get(&path).await);
    assert_eq!(listed["configs"], json!([expected, without_credentials]));
    let found = call_rpc(&service, "GetTaskPushNotificationConfig", json!({"taskId": id, "id": "h"})).await;
    assert_eq!(found["result"], without_credentials);
    assert_eq!(service.get(&format!("{path}/h")).await, without_credentials);
    // Twice: that it does not exist is no error.
    for _ in 0..2 {
        let deleted = service.request(Method::DELETE, &format!("{path}/h")).send().await.unwrap();
        assert_eq!(deleted.status(), 200);
    }
    let deleted = call_rpc(&service, "DeleteTaskPushNotificationConfig", json!({"taskId": id, "id": id})).await;
    assert_eq!(deleted["result"], json!({}));
    assert_eq!(service.get(&path).await["configs"], json!([]));
    let missing = service.request(Method::GET, &format!("{path}/h")).send().await.unwrap();
    assert_eq!(missing.status(), 404);
    let unknown = call_rpc(&service, "ListTaskPushNotificationConfigs", json!({"taskId": "nope"})).await;
    assert_eq!(unknown["error"]["code"], -32001);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_are_not_allowed_are_refused_before_the_message_is_sent() {
    let service = start_service(vec![vec![text("Hello.")]], Vec::new()).await;
    for url in [
        "http://hooks.example.com/s3cret",
        "https://elsewhere.example/s3cret",
        "https://169.254.169.254/s3cret",
        "http://127.0.0.2/s3cret",
        "http://[::1]/s3cret",
        "https://user:s3cret@hooks.example.com/",
        "file:///s3cret",
        "",
    ] {
        let body = message("m", "hi", &json!({"url": url}));
        let refused = service.request(Method::POST, "/a2a/v1/message:send").json(&body).send().await.unwrap();
        assert_eq!(refused.status(), 400, "{url}");
        let said = refused.text().await.unwrap();
        assert!(!said.contains("s3cret"), "{said}");
    }
    assert_eq!(service.get("/a2a/v1/tasks").await["tasks"], json!([]));
    let off = TestService::with(&ScriptedModel::new([vec![text("Hello.")]])).await;
    assert_eq!(off.get("/.well-known/agent-card.json").await["capabilities"]["pushNotifications"], false);
    let refused = call_rpc(&off, "SendMessage", message("m", "hi", &json!({"url": "https://hooks.example.com"}))).await;
    assert_eq!(refused["error"]["code"], -32003);
    for method in ["Create", "Get", "List", "Delete"] {
        let method = if method == "List" {
            "ListTaskPushNotificationConfigs"
        } else {
            &format!("{method}TaskPushNotificationConfig")
        };
        let params = json!({"taskId": "nope", "id": "x", "url": "https://hooks.example.com"});
        assert_eq!(call_rpc(&off, method, params).await["error"]["code"], -32003, "{method}");
    }
    off.stop().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receiver_that_refuses_is_given_up_and_disturbs_nothing() {
    let receiver = NotificationReceiver::start(307).await;
    let replies = vec![vec![text("One.")], vec![text("Two.")]];
    let service = start_service(replies, vec![("K8SOPS_NOTIFY_ATTEMPTS", "2".to_owned())]).await;
    let task = send(&service, message("m", "hi", &json!({"id": "p", "url": receiver.url}))).await;
    assert_eq!(task["status"]["state"], "TASK_STATE_COMPLETED");
    let path = format!("/a2a/v1/tasks/{}/pushNotificationConfigs", task["id"].as_str().unwrap());
    eventually("it is given up", async || service.get(&path).await["configs"] == json!([])).await;
    assert_eq!(receiver.attempts().len(), 2);
    let id = |at: usize| {
        let head = &receiver.attempts()[at].head;
        head.lines().find(|line| line.starts_with("x-k8sops-notification-id: ")).map(str::to_owned)
    };
    assert!(id(0).is_some() && id(0) == id(1));
    eventually("it is counted", async || {
        let metrics = service.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        metrics.contains("k8sops_notifications_total{outcome=\"given_up\"} 1")
    })
    .await;
    assert_eq!(send(&service, message("m2", "hi", &Value::Null)).await["status"]["state"], "TASK_STATE_COMPLETED");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_go_on_after_a_restart() {
    let receiver = NotificationReceiver::start(503).await;
    let service = start_service(vec![vec![text("Hello.")]], Vec::new()).await;
    send(&service, message("m", "hi", &json!({"url": receiver.url}))).await;
    eventually("the receiver refuses", async || !receiver.attempts().is_empty()).await;
    let data = service.stop().await;
    receiver.answer_with(200);
    let env = vec![("K8SOPS_NOTIFY_ALLOW", "http://127.0.0.1".to_owned())];
    let model = ScriptedModel::new(Vec::<Vec<ReplyStep>>::new());
    let setup = ServiceSetup { env, model: Some(model), data: Some(data), ..ServiceSetup::default() };
    let service = TestService::start(setup).await;
    eventually("all is posted", async || {
        let told = receiver.described_updates();
        if told == ["TASK_STATE_WORKING", "Hello.", "TASK_STATE_COMPLETED"] { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    service.stop().await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_replica_is_killed_between_event_and_delivery() {
    let receiver = NotificationReceiver::start(503).await;
    let (redis, providers) = (RedisServer::start(RedisFlavor::Debian).await, FakeProviders::start().await);
    let redis_url = redis.url();
    let env = [
        ("LLM_PROVIDER", "test-openai-chat"),
        ("LLM_MODEL", "m"),
        ("MEMORY_BACKEND", "redis"),
        ("REDIS_URL", &*redis_url),
        ("K8SOPS_NOTIFY_ALLOW", "http://127.0.0.1"),
    ];
    let yaml = providers.settings_yaml();
    providers.script(ProviderApi::Chat, "m", ["Hello."].map(|text| ProviderApi::Chat.text(text)));
    let first = TestProgram::start(&yaml, &env).await;
    let body = message("m", "hi", &json!({"id": "p", "url": receiver.url}));
    let sent = first.request(Method::POST, "/a2a/v1/message:send").json(&body).send().await.unwrap();
    let task = sent.json::<Value>().await.unwrap()["task"].take();
    assert_eq!(task["status"]["state"], "TASK_STATE_COMPLETED");
    eventually("the receiver refuses", async || !receiver.attempts().is_empty()).await;
    first.process.send_signal(Signal::SIGKILL);
    receiver.answer_with(200);
    let second = TestProgram::start(&yaml, &env).await;
    eventually("all is posted by the other replica", async || {
        let told = receiver.described_updates();
        if told == ["TASK_STATE_WORKING", "Hello.", "TASK_STATE_COMPLETED"] { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    let listed = second.get(&format!("/a2a/v1/tasks/{}/pushNotificationConfigs", task["id"].as_str().unwrap())).await;
    assert_eq!(listed["configs"][0]["id"], "p");
    drop(first);
    second.stop().await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn a2a_sdk_gets_notifications_over_both_bindings() {
    let replies = ["One.", "Two."].map(|answer| vec![text(answer)]).into();
    let (service, folder) = (start_service(replies, Vec::new()).await, TempDir::new().unwrap());
    let mut client = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
    client.arg(format!("{CLIENTS}/a2a_push.py")).arg(&service.base);
    assert_eq!(run_in_folder(&mut client, folder.path()).await.trim(), "done");
    service.stop().await;
}
