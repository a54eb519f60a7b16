//! The door for other agents: runs as tasks, over both bindings of A2A.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    a2a_client::{
        HITL, HTTP, RPC, StreamedItems, applied, call_method, failed_call, get_task, in_context, items, message,
        rpc_request, send, session, state, status_text, stream, texts, to_task, with_answers,
    },
    door_logs::plain_log,
    keys::ApiKeyFile,
    service::{ServiceSetup, TestService},
};
use k8sops::auth::UserRole;
use k8sops_models::{ModelError, ModelErrorKind};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    eventually,
    scripted_model::{ReplyStep, ScriptedModel, TestGate, call, text},
};

#[tokio::test(flavor = "multi_thread")]
async fn turn_leaves_the_same_log_as_over_the_native_api() {
    let tools = CountingMcpServer::new();
    let reply = || vec![vec![text("I look. "), call("look", json!({"a": 1}))], vec![text("All "), text("is well.")]];
    let service = TestService::with_tools([reply(), reply()].concat(), &tools).await;
    let native = service.create_session().await;
    service.turn(&native, "how is it?").await;
    let task = send(&service, message("m-1", "how is it?")).await;
    assert_eq!((state(&task), texts(&task)), ("TASK_STATE_COMPLETED", vec!["I look. ", "All is well."]));
    let names: Vec<&Value> = task["artifacts"].as_array().unwrap().iter().map(|artifact| &artifact["name"]).collect();
    assert_eq!(names, ["commentary", "answer"]);
    let asked = &task["history"][0];
    assert_eq!((&asked["messageId"], &asked["role"]), (&json!("m-1"), &json!("ROLE_USER")));
    assert_eq!(get_task(&service, &task).await, task);
    let [native, door] = [service.log(&native).await, service.log(&session(&task)).await];
    assert_eq!(plain_log(&native), plain_log(&door));
    // The same message again is the same task.
    assert_eq!(send(&service, message("m-1", "how is it?")).await, task);
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_adds_up_to_the_task_over_both_bindings() {
    let tools = CountingMcpServer::new();
    let gates = [TestGate::new(), TestGate::new()];
    let replies = gates.iter().flat_map(|gate| {
        [
            vec![ReplyStep::Wait(gate.clone()), text("I "), text("look."), call("look", json!({}))],
            vec![text("All "), text("well.")],
        ]
    });
    let service = TestService::with_tools(replies.collect(), &tools).await;
    let over_rpc = rpc_request(&service, "SendStreamingMessage", &message("m-1", "hi"));
    let over_http = service.request(Method::POST, &format!("{HTTP}/message:stream")).json(&message("m-2", "hi"));
    for (request, gate) in [over_rpc, over_http].into_iter().zip(&gates) {
        // A stream begins with what the task has become so far.
        let mut stream = StreamedItems::read(request.send().await.unwrap());
        let mut items = Vec::new();
        while let Some(item) = stream.next().await {
            gate.open();
            items.push(item);
        }
        assert!(items[0]["task"].is_object(), "{items:?}");
        let states: Vec<&Value> = items.iter().filter_map(|item| item.pointer("/statusUpdate/status/state")).collect();
        assert_eq!(states.last(), Some(&&json!("TASK_STATE_COMPLETED")), "{items:?}");
        let calls =
            items.iter().filter_map(|item| item.pointer("/statusUpdate/status/message/metadata/k8sops/toolCall"));
        let calls: Vec<&Value> = calls.map(|call| &call["status"]).collect();
        assert_eq!(calls, ["running", "ok"]);
        assert!(items.iter().any(|item| item["artifactUpdate"]["append"] == true), "{items:?}");
        let whole = get_task(&service, &items[0]["task"]).await;
        let mut task = applied(&items);
        task["history"] = whole["history"].clone();
        assert_eq!(task, whole);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn void_text_is_emptied_in_a_stream() {
    let (gate, error) = (TestGate::new(), ModelError::new(ModelErrorKind::Network, "connection lost"));
    let service = TestService::with(&ScriptedModel::new([
        vec![text("The answer is forty"), ReplyStep::Wait(gate.clone()), ReplyStep::Fail(error)],
        vec![text("The answer is 42.")],
    ]))
    .await;
    let request = rpc_request(&service, "SendStreamingMessage", &message("m-1", "hi"));
    let mut stream = StreamedItems::read(request.send().await.unwrap());
    let mut items = Vec::new();
    while let Some(item) = stream.next().await {
        if item.to_string().contains("The answer is forty") {
            gate.open();
        }
        items.push(item);
    }
    assert_eq!(texts(&applied(&items)), ["", "The answer is 42."]);
    assert_eq!(texts(&get_task(&service, &items[0]["task"]).await), ["The answer is 42."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn task_waits_for_an_approval_in_words() {
    let tools = CountingMcpServer::new();
    let change = vec![text("I change it."), call("change", json!({"replicas": 3}))];
    let service = TestService::with_tools(vec![change, vec![text("Done.")]], &tools).await;
    let items = stream(&service, "SendStreamingMessage", in_context("c", "m-1", "change it")).await;
    let task = applied(&items);
    assert_eq!((state(&task), &task["contextId"]), ("TASK_STATE_INPUT_REQUIRED", &json!("c")));
    let asked = status_text(&task);
    assert!(asked.contains("**Approval needed** for `change`"), "{asked}");
    assert!(task["status"]["message"].get("metadata").is_none(), "{task}");
    // What is no answer is not sent, whether it names the task or not.
    for params in [to_task(&task, "m-2", "and now?"), in_context("c", "m-3", "and now?")] {
        let blocked = send(&service, params).await;
        assert_eq!((&blocked["id"], state(&blocked)), (&task["id"], "TASK_STATE_INPUT_REQUIRED"));
        assert!(status_text(&blocked).starts_with("Your message was not sent"), "{blocked}");
    }
    let wrong = call_method(&service, "SendMessage", in_context("c", "m-4", "approve ffffff")).await;
    assert!(wrong["message"]["parts"][0]["text"].as_str().unwrap().contains("Nothing waits"), "{wrong}");
    // A task that waits is shown to subscribers, and is listed.
    let seen = stream(&service, "SubscribeToTask", json!({"id": task["id"]})).await;
    assert_eq!((seen.len(), state(&seen[0]["task"])), (1, "TASK_STATE_INPUT_REQUIRED"));
    let listed = call_method(&service, "ListTasks", json!({"status": "TASK_STATE_INPUT_REQUIRED"})).await;
    assert_eq!((&listed["totalSize"], &listed["tasks"][0]["id"]), (&json!(1), &task["id"]));
    assert_eq!(tools.count_calls("change"), 0);
    let words = asked.split('`').find(|words| words.starts_with("approve ")).unwrap();
    let mut answer = to_task(&task, "m-5", words);
    answer["message"]["contextId"] = "c".into();
    let done = send(&service, answer).await;
    assert_eq!((&done["id"], state(&done), tools.count_calls("change")), (&task["id"], "TASK_STATE_COMPLETED", 1));
    assert_eq!(texts(&done), ["I change it.", "Done."]);
    assert_eq!(done["history"].as_array().unwrap().len(), 2, "{done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_approve_each_call_by_the_extension() {
    let tools = CountingMcpServer::new();
    let two = vec![call("change", json!({"a": 1})), call("change", json!({"a": 2}))];
    let service = TestService::with_tools(vec![two, vec![text("One of two.")]], &tools).await;
    let request = rpc_request(&service, "SendMessage", &message("m-1", "change both")).header("a2a-extensions", HITL);
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["a2a-extensions"], HITL);
    let task = response.json::<Value>().await.unwrap()["result"]["task"].clone();
    let asked = &task["status"]["message"];
    assert_eq!(asked["extensions"], json!([HITL]));
    let payload = &asked["metadata"][HITL];
    assert_eq!(payload["type"], "tool_approval_request");
    let tool_ids: Vec<&Value> = payload["tools"].as_array().unwrap().iter().map(|tool| &tool["id"]).collect();
    assert_eq!((tool_ids.len(), &payload["tools"][1]["args"]), (2, &json!({"a": 2})));
    let answers = |approvals: Value| {
        with_answers(&task, "m-2", json!({"type": "tool_approval_response", "approvals": approvals}))
    };
    let [yes, no] = [
        json!({"id": tool_ids[0], "approved": true}),
        json!({"id": tool_ids[1], "approved": false, "rejection_reason": "too much"}),
    ];
    // Nothing that is left out or there twice counts.
    let other = json!({"id": "other", "approved": true});
    for wrong in [json!([]), json!([yes]), json!([yes, yes, no]), json!([yes, no, other])] {
        assert_eq!(failed_call(&service, "SendMessage", answers(wrong)).await.0, -32602);
    }
    let mut undeclared = answers(json!([yes, no]));
    undeclared["message"]["extensions"] = json!([]);
    assert_eq!(failed_call(&service, "SendMessage", undeclared).await.0, -32602);
    assert_eq!(tools.count_calls("change"), 0);
    let done = send(&service, answers(json!([yes, no]))).await;
    assert_eq!((state(&done), tools.count_calls("change")), ("TASK_STATE_COMPLETED", 1));
    let log = service.log(&session(&task)).await;
    let denied = log.iter().find(|event| event["decision"] == "deny").unwrap();
    assert_eq!(denied["comment"], "too much");
    // A second tab is too late.
    let late = failed_call(&service, "SendMessage", answers(json!([yes, no]))).await;
    assert_eq!(late, (-32004, "UNSUPPORTED_OPERATION".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn task_is_returned_at_once_followed_and_canceled() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("long "), ReplyStep::Wait(gate.clone()), text("end")]]);
    let service = TestService::with(&model).await;
    let mut params = in_context("c", "m-1", "hi");
    params["configuration"] = json!({"returnImmediately": true, "historyLength": 0});
    let task = send(&service, params).await;
    assert!(["TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"].contains(&state(&task)), "{task}");
    assert!(task.get("history").is_none(), "{task}");
    gate.arrived().await;
    let mut second = in_context("c", "m-2", "and?");
    second["configuration"] = json!({"return_immediately": "true"});
    let queued = send(&service, second).await;
    let known = get_task(&service, &queued).await;
    assert_eq!((state(&known), &known["history"][0]["messageId"]), ("TASK_STATE_SUBMITTED", &json!("m-2")));
    // A task that works takes no messages.
    let refused = failed_call(&service, "SendMessage", to_task(&task, "m-3", "more")).await;
    assert_eq!(refused, (-32004, "UNSUPPORTED_OPERATION".to_owned()));
    let path = format!("{HTTP}/tasks/{}:subscribe", task["id"].as_str().unwrap());
    let [by_get, by_post] = [Method::GET, Method::POST].map(|method| service.request(method, &path).send());
    let (by_get, by_post) = (by_get.await.unwrap(), by_post.await.unwrap());
    // The one that waits for its turn is canceled when that comes, and no other.
    let cancel = |task: &Value| call_method(&service, "CancelTask", json!({"id": task["id"]}));
    let (queued_after, canceled) = (cancel(&queued).await, cancel(&task).await);
    assert_eq!((state(&queued_after), state(&canceled)), ("TASK_STATE_SUBMITTED", "TASK_STATE_CANCELED"));
    for response in [by_get, by_post] {
        let seen = applied(&items(response).await);
        assert_eq!((state(&seen), texts(&seen)), ("TASK_STATE_CANCELED", vec!["long "]));
    }
    eventually("the queued task is canceled", async || {
        state(&get_task(&service, &queued).await) == "TASK_STATE_CANCELED"
    })
    .await;
    let id = json!({"id": task["id"]});
    let again = failed_call(&service, "CancelTask", id.clone()).await;
    assert_eq!(again, (-32002, "TASK_NOT_CANCELABLE".to_owned()));
    let subscribed = failed_call(&service, "SubscribeToTask", id).await;
    assert_eq!(subscribed, (-32004, "UNSUPPORTED_OPERATION".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_listed_by_context_and_page() {
    let error = ModelError::new(ModelErrorKind::InvalidRequest, "no");
    let model = ScriptedModel::new([vec![text("1")], vec![text("2")], vec![ReplyStep::Fail(error)], vec![text("4")]]);
    let service = TestService::with(&model).await;
    let mut sent = Vec::new();
    for (context, id) in [("a", "1"), ("a", "2"), ("b", "3"), ("b", "4")] {
        sent.push(send(&service, in_context(context, id, "hi")).await["id"].clone());
    }
    let ids =
        |page: &Value| page["tasks"].as_array().unwrap().iter().map(|task| task["id"].clone()).collect::<Vec<_>>();
    let list = async |params: Value| call_method(&service, "ListTasks", params).await;
    let newest_first: Vec<Value> = sent.iter().rev().cloned().collect();
    let all = list(json!({})).await;
    assert_eq!((ids(&all), &all["totalSize"], &all["nextPageToken"]), (newest_first.clone(), &json!(4), &json!("")));
    assert!(all["tasks"][0].get("artifacts").is_none(), "{all}");
    let of_a = list(json!({"contextId": "a", "includeArtifacts": true})).await;
    assert_eq!((ids(&of_a), &of_a["tasks"][0]["contextId"]), (newest_first[2..].to_vec(), &json!("a")));
    assert_eq!(texts(&of_a["tasks"][0]), ["2"]);
    let (mut paged, mut token) = (Vec::new(), json!(""));
    for size in [3, 1] {
        let page = list(json!({"pageSize": 3, "pageToken": token})).await;
        assert_eq!((page["tasks"].as_array().unwrap().len(), &page["pageSize"]), (size, &json!(3)));
        paged.extend(ids(&page));
        token = page["nextPageToken"].clone();
    }
    assert_eq!((paged, token), (newest_first.clone(), json!("")));
    let failed = list(json!({"status": "TASK_STATE_FAILED"})).await;
    assert_eq!(ids(&failed), [sent[2].clone()]);
    let since = &all["tasks"][1]["status"]["timestamp"];
    assert_eq!(ids(&list(json!({"statusTimestampAfter": since})).await), newest_first[..2]);
    let over_http = service.get(&format!("{HTTP}/tasks?contextId=a&pageSize=1&historyLength=0")).await;
    assert_eq!((ids(&over_http), &over_http["totalSize"]), (newest_first[2..3].to_vec(), &json!(2)));
    assert_eq!(ids(&list(json!({"contextId": "unknown"})).await), Vec::<Value>::new());
    for wrong in [json!({"pageSize": 0}), json!({"pageToken": "x"}), json!({"status": "x"})] {
        assert_eq!(failed_call(&service, "ListTasks", wrong).await.0, -32602);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_form_of_the_binding() {
    let service = TestService::with(&ScriptedModel::new([vec![text("hi")]])).await;
    let unknown = "0".repeat(64);
    let file = json!({"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"raw": "aGk="}]}});
    for (method, params, expected) in [
        ("tasks/get", json!({}), (-32601, "METHOD_NOT_FOUND")),
        ("GetTask", json!({}), (-32602, "INVALID_PARAMS")),
        ("GetTask", json!({"id": unknown}), (-32001, "TASK_NOT_FOUND")),
        ("CancelTask", json!({"id": "nope"}), (-32001, "TASK_NOT_FOUND")),
        ("SendMessage", json!({}), (-32602, "INVALID_PARAMS")),
        ("SendMessage", json!({"message": 5}), (-32602, "INVALID_PARAMS")),
        ("SendMessage", file.clone(), (-32005, "CONTENT_TYPE_NOT_SUPPORTED")),
        ("SendStreamingMessage", to_task(&json!({"id": unknown}), "m", "x"), (-32001, "TASK_NOT_FOUND")),
        ("GetExtendedAgentCard", json!({}), (-32004, "UNSUPPORTED_OPERATION")),
        ("CreateTaskPushNotificationConfig", json!({}), (-32003, "PUSH_NOTIFICATION_NOT_SUPPORTED")),
    ] {
        let (code, reason) = failed_call(&service, method, params).await;
        assert_eq!((code, reason.as_str()), expected, "{method}");
    }
    for (kind, body, code) in [
        ("application/json", "{nope", -32700),
        ("text/plain", "{nope", -32005),
        ("application/json", r#"[{"jsonrpc": "2.0", "id": 1, "method": "GetTask"}]"#, -32600),
    ] {
        let request = service.request(Method::POST, RPC).header("content-type", kind).body(body);
        let body: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!((&body["error"]["code"], &body["id"]), (&json!(code), &Value::Null));
    }
    let tasks = format!("{HTTP}/tasks");
    let send_path = format!("{HTTP}/message:send");
    for (method, path, body, expected) in [
        (Method::GET, format!("{tasks}/{unknown}"), json!({}), (404, "NOT_FOUND", "TASK_NOT_FOUND")),
        (Method::POST, format!("{tasks}/nope:cancel"), json!({}), (404, "NOT_FOUND", "TASK_NOT_FOUND")),
        (Method::POST, send_path.clone(), json!({}), (400, "INVALID_ARGUMENT", "INVALID_PARAMS")),
        (Method::POST, send_path.clone(), json!([]), (400, "INVALID_ARGUMENT", "INVALID_JSON")),
        (Method::POST, send_path, file, (400, "INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED")),
        (
            Method::GET,
            format!("{tasks}/{unknown}/pushNotificationConfigs"),
            json!({}),
            (400, "FAILED_PRECONDITION", "PUSH_NOTIFICATION_NOT_SUPPORTED"),
        ),
        (
            Method::GET,
            format!("{HTTP}/extendedAgentCard"),
            json!({}),
            (400, "FAILED_PRECONDITION", "UNSUPPORTED_OPERATION"),
        ),
        (Method::GET, format!("{HTTP}/nothing"), json!({}), (404, "NOT_FOUND", "NOT_FOUND")),
    ] {
        let response = service.request(method, &path).json(&body).send().await.unwrap();
        let status = response.status().as_u16();
        let error = response.json::<Value>().await.unwrap()["error"].clone();
        let found = (status, error["status"].as_str().unwrap(), error["details"][0]["reason"].as_str().unwrap());
        assert_eq!((found, &error["code"]), (expected, &json!(status)), "{path}");
    }
    let old = service.request(Method::GET, &tasks).header("a2a-version", "0.3").send().await.unwrap();
    let error: Value = old.json().await.unwrap();
    assert_eq!(error["error"]["details"][0]["reason"], "VERSION_NOT_SUPPORTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_belong_to_their_user() {
    let mut keys = ApiKeyFile::new();
    let [anna, ben, eve] = [("anna", UserRole::User), ("ben", UserRole::User), ("eve", UserRole::Viewer)]
        .map(|(name, role)| keys.add(name, &[role]));
    let model = ScriptedModel::new([vec![text("one")], vec![text("two")]]);
    let setup = ServiceSetup { model: Some(model), env: keys.env(), ..ServiceSetup::default() };
    let mut service = TestService::start(setup).await;
    let anonymous = service.request(Method::POST, RPC).json(&json!({})).send().await.unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    assert!(anonymous.headers().contains_key("www-authenticate"));
    assert_eq!(anonymous.json::<Value>().await.unwrap()["error"]["data"][0]["reason"], "UNAUTHENTICATED");
    service.token = Some(anna);
    let task = send(&service, in_context("c", "m-1", "hi")).await;
    service.token = Some(ben);
    let foreign = failed_call(&service, "GetTask", json!({"id": task["id"]})).await;
    assert_eq!(foreign, (-32001, "TASK_NOT_FOUND".to_owned()));
    assert_eq!(call_method(&service, "ListTasks", json!({})).await["totalSize"], 0);
    // The same name of a context is another one.
    let own = send(&service, in_context("c", "m-1", "hi")).await;
    assert_ne!((&own["id"], texts(&own)), (&task["id"], texts(&task)));
    let mixed = {
        let mut params = to_task(&own, "m-2", "more");
        params["message"]["contextId"] = "other".into();
        params
    };
    assert_eq!(failed_call(&service, "SendMessage", mixed).await.0, -32602);
    service.token = Some(eve);
    let viewer = rpc_request(&service, "SendMessage", &message("m-9", "hi")).send().await.unwrap();
    assert_eq!(viewer.status(), StatusCode::FORBIDDEN);
    assert_eq!(call_method(&service, "ListTasks", json!({})).await["totalSize"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn card_says_where_and_how() {
    let mut keys = ApiKeyFile::new();
    keys.add("anna", &[UserRole::User]);
    let setup = ServiceSetup { model: Some(ScriptedModel::new([])), env: keys.env(), ..ServiceSetup::default() };
    let service = TestService::start(setup).await;
    let ask = || service.request(Method::GET, "/.well-known/agent-card.json");
    let response = ask().send().await.unwrap();
    let tag = response.headers()["etag"].clone();
    assert!(response.headers()["cache-control"].to_str().unwrap().contains("max-age="));
    let card: Value = response.json().await.unwrap();
    let interfaces = card["supportedInterfaces"].as_array().unwrap();
    let urls: Vec<&Value> = interfaces.iter().map(|interface| &interface["url"]).collect();
    assert_eq!(urls, [&json!(format!("{}{RPC}", service.base)), &json!(format!("{}{HTTP}", service.base))]);
    assert!(interfaces.iter().all(|interface| interface["protocolVersion"] == "1.0"), "{card}");
    assert_eq!(card["securitySchemes"]["bearer"]["httpAuthSecurityScheme"]["scheme"], "Bearer");
    assert_eq!(
        (&card["capabilities"]["streaming"], &card["capabilities"]["extensions"][0]["uri"]),
        (&json!(true), &json!(HITL))
    );
    let cached = ask().header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(cached.status(), StatusCode::NOT_MODIFIED);
    // Behind a proxy it says the address of the proxy.
    let proxied = ask().header("x-forwarded-proto", "https").send().await.unwrap();
    assert_ne!(proxied.headers()["etag"], tag);
    let url = proxied.json::<Value>().await.unwrap()["supportedInterfaces"][0]["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("https://"), "{url}");
}
