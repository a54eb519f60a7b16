//! The door for clients of OpenAI's Responses API: parts of runs as responses that can be read again from any place.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    door_logs::plain_log,
    keys::ApiKeyFile,
    responses_client::{
        RESPONSES, approve, assert_replays, create, events, id, items, joined, number, post, refused, replay, retrieve,
        said, session, types,
    },
    service::{ServiceSetup, TestService},
};
use k8sops::auth::UserRole;
use k8sops_models::{ModelError, ModelErrorKind};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    eventually,
    redis::{RedisFlavor, RedisServer},
    scripted_model::{ReplyStep, ScriptedModel, TestGate, call, text},
};

#[tokio::test(flavor = "multi_thread")]
async fn turn_leaves_the_same_log_as_over_the_native_api() {
    let tools = CountingMcpServer::new();
    let reply = || vec![vec![text("I look. "), call("look", json!({"a": 1}))], vec![text("All "), text("is well.")]];
    let service = TestService::with_tools([reply(), reply()].concat(), &tools).await;
    let native = service.create_session().await;
    service.turn(&native, "how is it?").await;
    let response = create(&service, json!({"input": "how is it?"})).await;
    assert_eq!((said(&response).as_str(), &response["status"]), ("I look. All is well.", &json!("completed")));
    let kinds: Vec<&Value> = response["output"].as_array().unwrap().iter().map(|item| &item["type"]).collect();
    assert_eq!(kinds, ["message", "mcp_call", "message"]);
    let called = &response["output"][1];
    assert_eq!(
        (&called["name"], &called["arguments"], &called["error"]),
        (&json!("look"), &json!("{\"a\":1}"), &Value::Null)
    );
    assert_eq!((&called["status"], called["output"].is_string()), (&json!("completed"), true));
    let phases: Vec<&Value> = items(&response, "message").iter().map(|item| &item["phase"]).collect();
    assert_eq!(phases, ["commentary", "final_answer"]);
    assert!(response["usage"]["total_tokens"].is_u64() && response["completed_at"].is_i64(), "{response}");
    assert_eq!(retrieve(&service, &response).await, response);
    let [native, door] = [service.log(&native).await, service.log(&session(&response)).await];
    assert_eq!(plain_log(&native), plain_log(&door));
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_can_be_read_again_from_every_event() {
    let tools = CountingMcpServer::new();
    let replies = vec![
        vec![
            ReplyStep::Reasoning("h".into()),
            ReplyStep::Reasoning("m".into()),
            text("Ich "),
            text("prüfe."),
            call("look", json!({})),
        ],
        vec![text("Alles "), text("läuft "), text("gut.")],
    ];
    let service = TestService::with_tools(replies, &tools).await;
    let response = post(&service, json!({"input": "wie geht es?", "stream": true})).send().await.unwrap();
    let live = events(response).await;
    let (_, others) = joined(&live);
    assert_eq!(
        types(&others),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.reasoning_summary_part.added",
            "response.reasoning_summary_text.done",
            "response.reasoning_summary_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.mcp_call.in_progress",
            "response.mcp_call_arguments.delta",
            "response.mcp_call_arguments.done",
            "response.mcp_call.completed",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    // Clients put the arguments together from their events, and fail if some are there before.
    let begun = others.iter().find(|event| event["item"]["type"] == "mcp_call").unwrap();
    assert_eq!((&begun["item"]["status"], &begun["item"]["arguments"]), (&json!("in_progress"), &json!("")));
    let last = &live.last().unwrap()["response"];
    assert_eq!(&retrieve(&service, last).await, last);
    assert_replays(&service, &live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_reads_on_in_the_middle_of_a_message() {
    let gate = TestGate::new();
    let model =
        ScriptedModel::new([vec![text("The first half, "), ReplyStep::Wait(gate.clone()), text("the second.")]]);
    let service = TestService::with(&model).await;
    let mut first = post(&service, json!({"input": "hi", "stream": true})).send().await.unwrap();
    gate.arrived().await;
    let mut text = String::new();
    while !text.contains("half, ") {
        text.push_str(std::str::from_utf8(&first.chunk().await.unwrap().unwrap()).unwrap());
    }
    drop(first);
    let read: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let response = id(&read[0]["response"]).to_owned();
    let polled = service.get(&format!("{RESPONSES}/{response}")).await;
    assert_eq!((&polled["status"], &polled["usage"]), (&json!("in_progress"), &Value::Null));
    let path = format!("{RESPONSES}/{response}?stream=true&starting_after={}", number(read.last().unwrap()));
    let rest = service.request(Method::GET, &path).send().await.unwrap();
    gate.open();
    let rest = events(rest).await;
    let (texts, _) = joined(&[read, rest].concat());
    assert_eq!(texts.iter().map(|(_, text)| text.as_str()).collect::<String>(), "The first half, the second.");
}

#[tokio::test(flavor = "multi_thread")]
async fn void_text_is_an_incomplete_item() {
    let error = ModelError::new(ModelErrorKind::Network, "connection lost");
    let service = TestService::with(&ScriptedModel::new([
        vec![text("The answer is forty"), ReplyStep::Fail(error)],
        vec![text("The answer is 42.")],
    ]))
    .await;
    let response = post(&service, json!({"input": "hi", "stream": true})).send().await.unwrap();
    let live = events(response).await;
    let last = live.last().unwrap()["response"].clone();
    let messages = items(&last, "message");
    assert_eq!(
        (messages.len(), &messages[0]["status"], &messages[0]["content"]),
        (2, &json!("incomplete"), &json!([]))
    );
    assert_eq!(said(&last), "The answer is 42.");
    assert_eq!(retrieve(&service, &last).await, last);
    // Wherever a client was, it gets the whole of the text that counts, and learns that the other is void.
    let counts = messages[1]["id"].as_str().unwrap();
    let void = messages[0]["id"].as_str().unwrap();
    for (at, event) in live.iter().enumerate() {
        let mut read = live[..=at].to_vec();
        read.extend(replay(&service, id(&last), Some(number(event))).await);
        let (texts, others) = joined(&read);
        let whole: Vec<_> = texts.iter().filter(|(item, _)| item == counts).map(|(_, text)| text.as_str()).collect();
        assert_eq!(whole, ["The answer is 42."], "cut after {event}");
        let is_void = |event: &&Value| event["item"]["id"] == void && event["item"]["status"] == "incomplete";
        assert_eq!(others.iter().filter(is_void).count(), 1, "cut after {event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_begins_the_next_response() {
    let tools = CountingMcpServer::new();
    let change = || vec![text("I change it. "), call("change", json!({"replicas": 3}))];
    let service = TestService::with_tools(vec![change(), vec![text("Done.")]], &tools).await;
    let response = post(&service, json!({"input": "change it", "stream": true})).send().await.unwrap();
    let live = events(response).await;
    assert_replays(&service, &live).await;
    let asked = live.last().unwrap()["response"].clone();
    assert_eq!(asked["status"], "completed");
    let request = *items(&asked, "mcp_approval_request").last().unwrap();
    assert_eq!((&request["name"], &request["arguments"]), (&json!("change"), &json!("{\"replicas\":3}")));
    assert!(said(&asked).contains("**Approval needed** for `change`"), "{asked}");

    // A message does not queue behind the approval.
    let blocked = create(&service, json!({"input": "and now?", "previous_response_id": asked["id"]})).await;
    assert!(said(&blocked).starts_with("Your message was not sent"), "{blocked}");
    assert_eq!(items(&blocked, "mcp_approval_request"), [request]);
    assert_eq!(tools.count_calls("change"), 0);

    let body = json!({"input": approve(&asked), "previous_response_id": asked["id"], "stream": true});
    let live = events(post(&service, body.clone()).send().await.unwrap()).await;
    let done = live.last().unwrap()["response"].clone();
    assert_eq!((said(&done).as_str(), tools.count_calls("change")), ("Done.", 1));
    assert_eq!(items(&done, "mcp_call")[0]["status"], "completed");
    assert_replays(&service, &live).await;
    // The same answer again is the same response. What was asked before is still what was asked.
    let again = events(post(&service, body).send().await.unwrap()).await;
    assert_eq!(joined(&again), joined(&live));
    assert_eq!(tools.count_calls("change"), 1);
    assert_eq!(retrieve(&service, &asked).await, asked);
    assert_eq!(retrieve(&service, &blocked).await, blocked);

    let inputs = |response: &Value| format!("{RESPONSES}/{}/input_items", id(response));
    let message = service.get(&inputs(&asked)).await;
    assert_eq!(message["data"][0]["content"][0]["text"], "change it");
    let answer = service.get(&inputs(&done)).await;
    assert_eq!(
        (&answer["data"][0]["approve"], &answer["data"][0]["approval_request_id"]),
        (&json!(true), &request["id"])
    );
    assert_eq!(answer["data"].as_array().unwrap().len(), 1);
    let denial = json!([{"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": false}]);
    let (status, error) = refused(post(&service, json!({"input": denial}))).await;
    assert_eq!((status, &error["code"]), (404, &json!("approval_not_found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_approved_one_by_one_or_together() {
    let tools = CountingMcpServer::new();
    let two = || vec![call("change", json!({"a": 1})), call("change", json!({"a": 2}))];
    let service = TestService::with_tools(vec![two(), vec![text("One.")], two(), vec![text("Both.")]], &tools).await;
    let asked = create(&service, json!({"input": "change both"})).await;
    let answers = approve(&asked);
    assert_eq!(answers.as_array().unwrap().len(), 2);
    let mut denial = answers[1].clone();
    denial["approve"] = false.into();
    denial["reason"] = "too much".into();
    let half = create(&service, json!({"input": [answers[0]]})).await;
    assert_eq!((items(&half, "mcp_call").len(), items(&half, "mcp_approval_request").len()), (1, 1), "{half}");
    // The request is still open; it can be answered by the id of either response.
    let done = create(&service, json!({"input": [denial]})).await;
    assert_eq!(said(&done), "One.");
    let calls = items(&done, "mcp_call");
    assert_eq!((&calls.last().unwrap()["status"], tools.count_calls("change")), (&json!("failed"), 1));
    assert_eq!(retrieve(&service, &half).await, half);
    let asked = create(&service, json!({"input": "again", "previous_response_id": done["id"]})).await;
    let done = create(&service, json!({"input": approve(&asked)})).await;
    assert_eq!((said(&done).as_str(), tools.count_calls("change")), ("Both.", 3));
    assert_eq!(retrieve(&service, &done).await, done);
}

#[tokio::test(flavor = "multi_thread")]
async fn background_response_is_polled_and_cancelled() {
    let gate = TestGate::new();
    let model =
        ScriptedModel::new([vec![text("long "), ReplyStep::Wait(gate.clone()), text("end")], vec![text("two")]]);
    let service = TestService::with(&model).await;
    let created = create(&service, json!({"input": "hi", "background": true})).await;
    assert!(["queued", "in_progress"].contains(&created["status"].as_str().unwrap()), "{created}");
    assert_eq!(created["background"], true);
    gate.arrived().await;
    assert_eq!(retrieve(&service, &created).await["status"], "in_progress");
    let cancelled = service.post(&format!("{RESPONSES}/{}/cancel", id(&created)), json!({})).await;
    assert_eq!((&cancelled["status"], said(&cancelled).as_str()), (&json!("cancelled"), "long "));
    let again = service.post(&format!("{RESPONSES}/{}/cancel", id(&created)), json!({})).await;
    assert_eq!(again, cancelled);
    let next = create(&service, json!({"input": "and?", "previous_response_id": created["id"]})).await;
    assert_eq!((said(&next).as_str(), session(&next)), ("two", session(&created)));
    // It is not the run of the response any more that a cancel would end.
    let late = service.post(&format!("{RESPONSES}/{}/cancel", id(&created)), json!({})).await;
    assert_eq!(
        (&late["status"], &retrieve(&service, &next).await["status"]),
        (&json!("cancelled"), &json!("completed"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn conversation_is_named_or_found() {
    let replies: Vec<_> = ["one", "two", "three", "four", "five", "six"].map(|reply| vec![text(reply)]).into();
    let service = TestService::with(&ScriptedModel::new(replies)).await;
    let first = create(&service, json!({"input": "hi", "conversation": "incident-17"})).await;
    let home = session(&first);
    for body in [
        json!({"input": "more", "conversation": {"id": "incident-17"}}),
        json!({"input": "more", "conversation": first["conversation"]}),
        json!({"input": "more", "conversation": home.rsplit('/').next()}),
        json!({"input": [{"role": "user", "content": "more"}], "previous_response_id": first["id"]}),
    ] {
        let next = create(&service, body.clone()).await;
        assert_eq!(session(&next), home, "{body}");
    }
    let other = create(&service, json!({"input": "hello"})).await;
    assert_ne!(session(&other), home);
    assert_eq!(service.get("/v1/sessions").await["sessions"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn stateless_client_is_found_by_its_input() {
    let tools = CountingMcpServer::new();
    let replies = vec![vec![text("one")], vec![call("change", json!({}))], vec![text("Done.")]];
    let service = TestService::with_tools(replies, &tools).await;
    let mut input = vec![json!({"role": "user", "content": "hi"})];
    let first = create(&service, json!({"input": input})).await;
    input.extend(first["output"].as_array().unwrap().clone());
    input.push(json!({"role": "user", "content": "change it"}));
    let asked = create(&service, json!({"input": input})).await;
    assert_eq!(session(&asked), session(&first));
    input.extend(asked["output"].as_array().unwrap().clone());
    input.extend(approve(&asked).as_array().unwrap().clone());
    let done = create(&service, json!({"input": input})).await;
    assert_eq!((said(&done).as_str(), tools.count_calls("change")), ("Done.", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_request_gets_the_same_response() {
    let replies: Vec<_> = ["one", "two", "three", "four"].map(|reply| vec![text(reply)]).into();
    let service = TestService::with(&ScriptedModel::new(replies)).await;
    let repeat = async |body: Value, header: (&str, &str)| -> Value {
        post(&service, body).header(header.0, header.1).send().await.unwrap().json().await.unwrap()
    };
    let first = create(&service, json!({"input": "hi"})).await;
    let again = repeat(json!({"input": "hi"}), ("x-stainless-retry-count", "1")).await;
    assert_eq!((said(&again), session(&again)), (said(&first), session(&first)));
    let next = json!({"input": "and?", "previous_response_id": first["id"]});
    let second = create(&service, next.clone()).await;
    let again = repeat(next, ("x-stainless-retry-count", "2")).await;
    assert_eq!((said(&again).as_str(), session(&again)), ("two", session(&second)));
    let keyed = repeat(json!({"input": "hi"}), ("idempotency-key", "k-1")).await;
    assert_eq!(said(&keyed), "three");
    assert_eq!(repeat(json!({"input": "hi"}), ("idempotency-key", "k-1")).await, keyed);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_run_is_a_failed_response() {
    let fail = || vec![text("I "), ReplyStep::Fail(ModelError::new(ModelErrorKind::InvalidRequest, "no such model"))];
    let service = TestService::with(&ScriptedModel::new([fail(), fail()])).await;
    let failed = create(&service, json!({"input": "hi"})).await;
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("invalid_request")));
    let live = events(post(&service, json!({"input": "hi", "stream": true})).send().await.unwrap()).await;
    let last = live.last().unwrap();
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.failed"), &json!("failed")));
    assert_eq!(retrieve(&service, &last["response"]).await, last["response"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_leaves_a_response_that_goes_on() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("long "), ReplyStep::Wait(gate.clone()), text("end")]]);
    let service = TestService::with(&model).await;
    let stream = post(&service, json!({"input": "hi", "stream": true})).send().await.unwrap();
    gate.arrived().await;
    service.request_stop();
    let events = events(stream).await;
    let [.., before, last] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&last["type"], &last["code"]), (&json!("error"), &json!("reconnect")));
    assert_eq!(number(last), number(before), "a client that goes on after it misses nothing");
    gate.open();
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn another_replica_returns_the_same_events() {
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
    let live = post(&one, json!({"input": "change it", "stream": true})).send().await.unwrap();
    gate.arrived().await;
    gate.open();
    let live = events(live).await;
    assert_replays(&other, &live).await;
    let asked = &live.last().unwrap()["response"];
    let done = create(&other, json!({"input": approve(asked), "previous_response_id": asked["id"]})).await;
    assert_eq!((said(&done).as_str(), tools.count_calls("change")), ("Done.", 1));
    assert_eq!(retrieve(&one, &done).await, done);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_form_of_the_door() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let get = |path: &str| service.request(Method::GET, &format!("{RESPONSES}/{path}"));
    let unknown = "resp_0190000000007000800000000000000a019af00000007000800000000000000b_1";
    let tool = json!([{"type": "function", "name": "f", "parameters": {}}]);
    for (request, status, code) in [
        (
            post(&service, json!({"input": "hi", "previous_response_id": "resp_nope"})),
            404,
            "previous_response_not_found",
        ),
        (post(&service, json!({"input": "hi", "previous_response_id": unknown})), 404, "previous_response_not_found"),
        (
            post(&service, json!({"input": "hi", "conversation": "conv_0190000000007000800000000000000a"})),
            404,
            "session_not_found",
        ),
        (post(&service, json!({"input": "hi", "tools": tool})), 400, "invalid_request"),
        (post(&service, json!({"input": []})), 400, "invalid_request"),
        (post(&service, json!({"input": "approve 0fb77b"})), 404, "approval_not_found"),
        (service.request(Method::POST, RESPONSES).body("{"), 400, "invalid_json"),
        (
            service.request(Method::POST, RESPONSES).json(&json!({"model": "gpt-5", "input": "hi"})),
            404,
            "model_not_found",
        ),
        (get("resp_nope"), 404, "response_not_found"),
        (get(unknown), 404, "response_not_found"),
        (get(&format!("{unknown}/input_items")), 404, "response_not_found"),
        (get(&format!("{unknown}?stream=true&starting_after=x")), 400, "invalid_request"),
        (service.request(Method::DELETE, &format!("{RESPONSES}/{unknown}")), 405, "method_not_allowed"),
        (service.request(Method::POST, &format!("{RESPONSES}/{unknown}/cancel")), 404, "response_not_found"),
    ] {
        let (found, error) = refused(request).await;
        assert_eq!((found, &error["code"]), (status, &json!(code)), "{error}");
        assert!(error["message"].is_string() && error["type"].is_string() && error.get("param").is_some(), "{error}");
    }
    assert_eq!(service.get("/v1/sessions").await["sessions"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_belong_to_their_users() {
    let mut keys = ApiKeyFile::new();
    let (anna, ben) = (keys.add("anna", &[UserRole::User]), keys.add("ben", &[UserRole::User]));
    let viewer = keys.add("vera", &[UserRole::Viewer]);
    let tools = CountingMcpServer::new();
    let model: Arc<ScriptedModel> = ScriptedModel::new([vec![call("change", json!({}))]]);
    let setup = ServiceSetup {
        model: Some(model),
        env: keys.env(),
        servers: vec![tools.connector()],
        ..ServiceSetup::default()
    };
    let mut service = TestService::start(setup).await;
    service.token = Some(anna);
    service.wait_for_mcp_servers().await;
    let asked = create(&service, json!({"input": "change it"})).await;
    service.token = Some(ben);
    let get = service.request(Method::GET, &format!("{RESPONSES}/{}", id(&asked)));
    assert_eq!(refused(get).await.0, 404);
    assert_eq!(refused(service.request(Method::POST, &format!("{RESPONSES}/{}/cancel", id(&asked)))).await.0, 404);
    assert_eq!(refused(post(&service, json!({"input": approve(&asked)}))).await.0, 404);
    assert_eq!(refused(post(&service, json!({"input": "hi", "previous_response_id": asked["id"]}))).await.0, 404);
    service.token = Some(viewer);
    assert_eq!(refused(post(&service, json!({"input": "hi"}))).await.1["code"], "role_required");
    service.token = Some("wrong".to_owned());
    assert_eq!(refused(post(&service, json!({"input": "hi"}))).await.1["code"], "invalid_api_key");
    assert_eq!(tools.count_calls("change"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn response_outlives_a_restart() {
    let tools = CountingMcpServer::new();
    let service = TestService::with_tools(vec![vec![text("I change it. "), call("change", json!({}))]], &tools).await;
    let live = events(post(&service, json!({"input": "change it", "stream": true})).send().await.unwrap()).await;
    let asked = live.last().unwrap()["response"].clone();
    let data = service.stop().await;
    let model: Arc<ScriptedModel> = ScriptedModel::new([vec![text("Done.")]]);
    let servers = vec![tools.connector()];
    let setup = ServiceSetup { model: Some(model), servers, data: Some(data), ..ServiceSetup::default() };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    assert_replays(&service, &live).await;
    let done = create(&service, json!({"input": approve(&asked), "background": true})).await;
    eventually("the run ends", async || said(&retrieve(&service, &done).await) == "Done.").await;
    assert_eq!(tools.count_calls("change"), 1);
}
