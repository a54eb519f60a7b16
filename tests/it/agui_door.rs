//! The door for clients of AG-UI: a session behind runs that end at interrupts.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    agui_client::{RunRequest, VERSION, approve, open_run, outcome, read_events, run, said, session_of, types},
    door_logs::plain_log,
    service::{ServiceSetup, TestService},
};
use k8sops_models::{ModelError, ModelErrorKind};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    eventually,
    redis::{RedisFlavor, RedisServer},
    scripted_model::{ReplyStep, ScriptedModel, TestGate, call, text},
};

#[tokio::test(flavor = "multi_thread")]
async fn run_is_a_sequence_of_events() {
    let tools = CountingMcpServer::new();
    let replies = vec![
        vec![ReplyStep::Reasoning("hm".into()), text("I "), text("look."), call("look", json!({"a": 1}))],
        vec![text("All is well.")],
    ];
    let service = TestService::with_tools(replies, &tools).await;
    let events = run(&service, RunRequest::message("t-1", "m-1", "how is it?")).await;
    assert_eq!(
        types(&events),
        [
            "RUN_STARTED",
            "REASONING_START",
            "REASONING_MESSAGE_START",
            "REASONING_MESSAGE_CONTENT",
            "REASONING_MESSAGE_END",
            "REASONING_END",
            "TEXT_MESSAGE_START",
            "TEXT_MESSAGE_CONTENT",
            "TEXT_MESSAGE_END",
            "TOOL_CALL_START",
            "TOOL_CALL_ARGS",
            "TOOL_CALL_END",
            "ACTIVITY_SNAPSHOT",
            "TOOL_CALL_RESULT",
            "TEXT_MESSAGE_START",
            "TEXT_MESSAGE_CONTENT",
            "TEXT_MESSAGE_END",
            "RUN_FINISHED",
        ]
    );
    assert_eq!((said(&events).as_str(), outcome(&events)), ("I look.All is well.", &json!({"type": "success"})));
    assert_eq!((&events[0]["threadId"], &events[0]["runId"]), (&json!("t-1"), &json!("run-1")));
    assert_eq!(events[0]["protocolVersion"], "1.0");
    // The same message again: the conversation, and no second run.
    let again = run(&service, RunRequest::message("t-1", "m-1", "how is it?")).await;
    assert_eq!(types(&again), ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]);
    let roles: Vec<&Value> = again[1]["messages"].as_array().unwrap().iter().map(|m| &m["role"]).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant"]);
    let sessions = service.get("/v1/sessions").await["sessions"].as_array().unwrap().len();
    assert_eq!(sessions, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_is_an_interrupt() {
    let tools = CountingMcpServer::new();
    let service = TestService::with_tools(
        vec![vec![text("I change it. "), call("change", json!({"replicas": 3}))], vec![text("Done.")]],
        &tools,
    )
    .await;
    let asked = run(&service, RunRequest::message("t-1", "m-1", "change it")).await;
    let interrupt = &outcome(&asked)["interrupts"][0];
    assert_eq!((&outcome(&asked)["type"], &interrupt["reason"]), (&json!("interrupt"), &json!("tool_call")));
    assert_eq!(interrupt["metadata"]["k8sops"]["arguments"], json!({"replicas": 3}));
    assert_eq!(asked[asked.len() - 2]["type"], "MESSAGES_SNAPSHOT");
    // A message does not queue behind the approval.
    let blocked = run(&service, RunRequest::message("t-1", "m-2", "and now?")).await;
    assert_eq!(
        (types(&blocked).as_slice(), &outcome(&blocked)["interrupts"][0]["id"]),
        (&["RUN_STARTED", "RUN_FINISHED"][..], &interrupt["id"])
    );
    assert_eq!(tools.count_calls("change"), 0);
    let resume = RunRequest { resume: approve(&asked), ..RunRequest::attach("t-1") };
    let done = run(&service, resume).await;
    assert_eq!(done[1]["type"], "MESSAGES_SNAPSHOT");
    assert!(!types(&done).contains(&"TOOL_CALL_START"), "calls of the snapshot are not repeated");
    assert_eq!(
        (said(&done).as_str(), &outcome(&done)["type"], tools.count_calls("change")),
        ("Done.", &json!("success"), 1)
    );
    // The same answer again finds nothing to answer.
    let again = run(&service, RunRequest { resume: approve(&asked), ..RunRequest::attach("t-1") }).await;
    assert_eq!((&outcome(&again)["type"], tools.count_calls("change")), (&json!("success"), 1));
    let log = service.log(&session_of(&asked)).await;
    let resolved = log.iter().find(|event| event["type"] == "approval_resolved").unwrap();
    assert_eq!((&resolved["decision"], &resolved["arguments"]), (&json!("approve"), &Value::Null));
    assert_eq!(log.iter().filter(|event| event["type"] == "user_message").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn turn_leaves_the_same_log_as_over_the_native_api() {
    let tools = CountingMcpServer::new();
    let reply = || vec![vec![text("I change it. "), call("change", json!({"replicas": 3}))], vec![text("Done.")]];
    let service = TestService::with_tools([reply(), reply()].concat(), &tools).await;
    let native = service.create_session().await;
    let mut stream = service.events(&native, "").await;
    service.post(&format!("{native}/messages"), json!({"content": "change it"})).await;
    let asked = stream.until("approval_requested").await;
    let approval = asked.last().unwrap()["approval_id"].as_str().unwrap().to_owned();
    service.post(&format!("{native}/approvals/{approval}"), json!({"decision": "approve"})).await;
    stream.until("run_finished").await;

    let asked = run(&service, RunRequest::message("t-1", "m-1", "change it")).await;
    run(&service, RunRequest { resume: approve(&asked), ..RunRequest::attach("t-1") }).await;
    let door = service.log(&session_of(&asked)).await;
    assert_eq!(plain_log(&service.log(&native).await), plain_log(&door));
}

#[tokio::test(flavor = "multi_thread")]
async fn anything_but_an_approval_denies() {
    for resume in
        [json!({"status": "resolved", "payload": {"approved": false, "comment": "no"}}), json!({"status": "cancelled"})]
    {
        let tools = CountingMcpServer::new();
        let service =
            TestService::with_tools(vec![vec![call("change", json!({}))], vec![text("I leave it.")]], &tools).await;
        let asked = run(&service, RunRequest::message("t-1", "m-1", "change it")).await;
        let mut answer = resume.clone();
        answer["interruptId"] = outcome(&asked)["interrupts"][0]["id"].clone();
        let done = run(&service, RunRequest { resume: json!([answer]), ..RunRequest::attach("t-1") }).await;
        assert_eq!((said(&done).as_str(), tools.count_calls("change")), ("I leave it.", 0));
        let result = done.iter().find(|event| event["type"] == "TOOL_CALL_RESULT").unwrap();
        assert_eq!(result["metadata"]["k8sops"]["status"], "denied");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupt_is_resumed_after_a_restart() {
    let tools = CountingMcpServer::new();
    let service = TestService::with_tools(vec![vec![call("change", json!({}))]], &tools).await;
    let asked = run(&service, RunRequest::message("t-1", "m-1", "change it")).await;
    let data = service.stop().await;
    let model: Arc<ScriptedModel> = ScriptedModel::new([vec![text("Done.")]]);
    let setup = ServiceSetup {
        model: Some(model),
        servers: vec![tools.connector()],
        data: Some(data),
        ..ServiceSetup::default()
    };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    let attached = run(&service, RunRequest::attach("t-1")).await;
    assert_eq!(outcome(&attached)["interrupts"], outcome(&asked)["interrupts"]);
    let done = run(&service, RunRequest { resume: approve(&asked), ..RunRequest::attach("t-1") }).await;
    assert_eq!((said(&done).as_str(), tools.count_calls("change")), ("Done.", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn client_attaches_to_a_run_in_progress() {
    let gate = TestGate::new();
    let model =
        ScriptedModel::new([vec![text("The first half, "), ReplyStep::Wait(gate.clone()), text("the second.")]]);
    let service = TestService::with(&model).await;
    let first = open_run(service.request(Method::POST, "/agui"), &RunRequest::message("t-1", "m-1", "hi")).await;
    gate.arrived().await;
    drop(first);
    let attached = open_run(service.request(Method::POST, "/agui"), &RunRequest::attach("t-1")).await;
    gate.open();
    let events = read_events(attached).await;
    assert_eq!(events[1]["type"], "MESSAGES_SNAPSHOT");
    assert_eq!((said(&events).as_str(), &outcome(&events)["type"]), ("The first half, the second.", &json!("success")));
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn another_replica_replays_and_resumes() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let gate = TestGate::new();
    let model: Arc<ScriptedModel> = ScriptedModel::new([
        vec![text("I will "), ReplyStep::Wait(gate.clone()), text("change it."), call("change", json!({}))],
        vec![text("Done.")],
    ]);
    let tools = CountingMcpServer::new();
    let start = async || {
        let env = vec![("MEMORY_BACKEND", "redis".into()), ("REDIS_URL", redis.url())];
        let (model, servers) = (Some(model.clone() as _), vec![tools.connector()]);
        let service = TestService::start(ServiceSetup { env, model, servers, ..ServiceSetup::default() }).await;
        service.wait_for_mcp_servers().await;
        service
    };
    let (one, other) = (start().await, start().await);
    let first = open_run(one.request(Method::POST, "/agui"), &RunRequest::message("t-1", "m-1", "change it")).await;
    gate.arrived().await;
    drop(first);
    let attached = open_run(other.request(Method::POST, "/agui"), &RunRequest::attach("t-1")).await;
    gate.open();
    let events = read_events(attached).await;
    assert_eq!((said(&events).as_str(), &outcome(&events)["type"]), ("I will change it.", &json!("interrupt")));
    let done = run(&other, RunRequest { resume: approve(&events), ..RunRequest::attach("t-1") }).await;
    assert_eq!((said(&done).as_str(), tools.count_calls("change")), ("Done.", 1));
    assert_eq!(session_of(&events), session_of(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_run_ends_as_each_generation_understands() {
    for version in [VERSION, None] {
        let gate = TestGate::new();
        let model = ScriptedModel::new([vec![text("long "), ReplyStep::Wait(gate.clone()), text("end")]]);
        let service = TestService::with(&model).await;
        let request = RunRequest { version, ..RunRequest::message("t-1", "m-1", "hi") };
        let response = open_run(service.request(Method::POST, "/agui"), &request).await;
        gate.arrived().await;
        let session = service.get("/v1/sessions").await["sessions"][0]["session_id"].as_str().unwrap().to_owned();
        service.post(&format!("/v1/sessions/{session}/cancel"), json!({})).await;
        let events = read_events(response).await;
        if version.is_some() {
            assert_eq!(outcome(&events), &json!({"type": "cancelled"}));
        } else {
            assert!(outcome(&events).is_null() && said(&events).contains("The run was cancelled."), "{events:?}");
            assert!(events[0].get("protocolVersion").is_none());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_client_approves_by_text() {
    let tools = CountingMcpServer::new();
    let service = TestService::with_tools(vec![vec![call("change", json!({}))], vec![text("Done.")]], &tools).await;
    let old =
        |id: &'static str, text| RunRequest { version: None, ..RunRequest::message("thread-1764500000000", id, text) };
    let asked = run(&service, old("m-1", "change it")).await;
    let words = said(&asked);
    assert!(words.contains("**Approval needed**"), "{words}");
    let answer = words.split('`').find(|word| word.starts_with("approve ")).unwrap();
    let blocked = run(&service, old("m-2", "and now?")).await;
    assert!(said(&blocked).starts_with("Your message was not sent"), "{}", said(&blocked));
    let done = run(&service, old("m-3", answer)).await;
    assert_eq!((said(&done).as_str(), tools.count_calls("change")), ("Done.", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_run_ends_with_an_error() {
    let fail = vec![text("I "), ReplyStep::Fail(ModelError::new(ModelErrorKind::InvalidRequest, "no such model"))];
    let service = TestService::with(&ScriptedModel::new([fail])).await;
    let events = run(&service, RunRequest::message("t-1", "m-1", "hi")).await;
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["code"]), (&json!("RUN_ERROR"), &json!("invalid_request")));
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_tells_the_client_to_come_back() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("long "), ReplyStep::Wait(gate.clone()), text("end")]]);
    let service = TestService::with(&model).await;
    let response = open_run(service.request(Method::POST, "/agui"), &RunRequest::message("t-1", "m-1", "hi")).await;
    gate.arrived().await;
    service.request_stop();
    let text = response.text().await.unwrap();
    let last: Value = serde_json::from_str(text.trim().rsplit("data: ").next().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["code"]), (&json!("RUN_ERROR"), &json!("reconnect")));
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnect_cancels_only_on_request() {
    for (query, outcome) in [("", "completed"), ("?on_disconnect=cancel", "cancelled")] {
        let gate = TestGate::new();
        let model = ScriptedModel::new([vec![text("long "), ReplyStep::Wait(gate.clone()), text("end")]]);
        let service = TestService::with(&model).await;
        let body = RunRequest::message("t-1", "m-1", "hi").body();
        let path = format!("/api/agui/chat{query}");
        let response = service.request(Method::POST, &path).json(&body).send().await.unwrap();
        gate.arrived().await;
        drop(response);
        let session = service.get("/v1/sessions").await["sessions"][0]["session_id"].as_str().unwrap().to_owned();
        let session = format!("/v1/sessions/{session}");
        if outcome == "completed" {
            gate.open();
        }
        eventually("the run ends", async || {
            service.log(&session).await.last().is_some_and(|event| event["outcome"] == outcome)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_requests_are_problems() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    for (body, code) in [
        (json!({"runId": "r", "messages": []}), "invalid_json"),
        (json!({"threadId": "", "runId": "r"}), "invalid_request"),
        (json!({"threadId": "x".repeat(600), "runId": "r"}), "invalid_request"),
        (json!({"threadId": "t", "runId": "r", "resume": [{"interruptId": "x", "status": "maybe"}]}), "invalid_json"),
    ] {
        let (status, problem) = service.refused(service.request(Method::POST, "/agui").json(&body)).await;
        assert_eq!((status, &problem["code"]), (400, &json!(code)), "{body}");
    }
    // A thread without a session asked nothing that could be answered.
    let answer = json!([{"interruptId": "x", "status": "resolved", "payload": {"approved": true}}]);
    let body = RunRequest { resume: answer, ..RunRequest::attach("t-1") }.body();
    let (status, problem) = service.refused(service.request(Method::POST, "/agui").json(&body)).await;
    assert_eq!((status, &problem["code"]), (404, &json!("session_not_found")));
}

/// Over one body after the other, as a client sends them that keeps what snapshots say.
#[tokio::test(flavor = "multi_thread")]
async fn snapshots_keep_questions_and_answers_in_words() {
    let tools = CountingMcpServer::new();
    let replies = vec![vec![text("I change it. "), call("change", json!({"replicas": 3}))], vec![text("Done.")]];
    let service = TestService::with_tools(replies, &tools).await;
    let first = json!({"id": "m-1", "role": "user", "content": "change it"});
    let send = async |messages: Value| {
        let body = json!({"threadId": "t-1", "runId": "run", "messages": messages});
        let response = service.request(Method::POST, "/agui").json(&body).send().await.unwrap();
        read_events(response).await
    };
    let snapshot = |events: &[Value]| {
        let snapshots = events.iter().filter(|event| event["type"] == "MESSAGES_SNAPSHOT");
        snapshots.map(|event| event["messages"].as_array().unwrap().clone()).next_back().unwrap()
    };
    let asked = send(json!([first])).await;
    let starts: Vec<&Value> = asked.iter().filter(|event| event["type"] == "TEXT_MESSAGE_START").collect();
    let question_id = &starts.last().unwrap()["messageId"];
    let of_question =
        asked.iter().filter(|event| event["type"] == "TEXT_MESSAGE_CONTENT" && event["messageId"] == *question_id);
    let question: String = of_question.filter_map(|event| event["delta"].as_str()).collect();
    let words = question.split('`').find(|words| words.starts_with("approve ")).unwrap();
    let mut messages = snapshot(&asked);
    messages.push(json!({"id": question_id, "role": "assistant", "content": question}));
    messages.push(json!({"id": "m-2", "role": "user", "content": words}));
    let done = send(json!(messages)).await;
    assert_eq!((said(&done).as_str(), tools.count_calls("change")), ("Done.", 1));
    assert_eq!(snapshot(&done), messages);
    // Everything is where it was when the client comes back, and what is no answer is not put back.
    messages.push(json!({"id": "made-up", "role": "assistant", "content": "I never said that."}));
    let again = snapshot(&send(json!(messages)).await);
    let roles: Vec<&Value> = again.iter().map(|message| &message["role"]).collect();
    assert_eq!(roles, ["user", "assistant", "assistant", "user", "tool", "assistant"]);
    assert_eq!(again[..4], messages[..4]);
    assert_eq!(again[5]["content"], "Done.");
}
