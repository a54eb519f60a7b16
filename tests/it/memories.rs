//! Long-term memory: extraction, recall in other sessions, ownership, and failures that do not affect turns.

use std::sync::{Arc, atomic::Ordering};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::service::{ServiceSetup, TestService, assert_gapless, frame_types};
use k8sops_testing::{
    eventually,
    redis::{RedisFlavor, RedisServer},
    remembering_model::RememberingModel,
};

const FACT: &str = "The shop runs on the cluster mars-17.";

fn memory_setup(model: &Arc<RememberingModel>) -> ServiceSetup {
    let env = vec![("MEMORY_LONG_TERM_ENABLED", "true".to_owned())];
    ServiceSetup { env, model: Some(model.clone()), ..ServiceSetup::default() }
}

async fn start_service(model: &Arc<RememberingModel>) -> TestService {
    TestService::start(memory_setup(model)).await
}

async fn restart_service(model: &Arc<RememberingModel>, data: TempDir) -> TestService {
    TestService::start(ServiceSetup { data: Some(data), ..memory_setup(model) }).await
}

/// Waits until the log of a session has this number of `memory_saved` events, and returns them.
async fn wait_for_extractions(service: &TestService, session: &str, count: usize) -> Vec<Value> {
    eventually("the memories are extracted", async || {
        let mut log = service.log(session).await;
        log.retain(|event| event["type"] == "memory_saved");
        (log.len() >= count).then_some(log)
    })
    .await
}

async fn list_contents(service: &TestService, query: &str) -> Vec<String> {
    let list = service.get(&format!("/v1/memories{query}")).await;
    let memories = list["memories"].as_array().unwrap().iter();
    memories.map(|memory| memory["content"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_of_one_session_is_recalled_in_the_next() {
    let model = RememberingModel::new();
    let service = start_service(&model).await;
    let first = service.create_session().await;
    service.turn(&first, &format!("REMEMBER {FACT}")).await;
    let looks = wait_for_extractions(&service, &first, 1).await;
    assert_eq!(looks[0]["memories"][0]["content"], FACT);
    assert_eq!(looks[0]["usage"]["input_tokens"], 100);
    assert_eq!(service.get(&first).await["usage"]["input_tokens"], 200, "the tokens of the extraction are counted");
    let memory = &service.get("/v1/memories").await["memories"][0];
    assert_eq!(first, format!("/v1/sessions/{}", memory["source"]["session_id"].as_str().unwrap()));
    assert!(memory["source"]["seq"].as_u64() < looks[0]["seq"].as_u64());

    let second = service.create_session().await;
    let frames = service.turn(&second, "where does the shop run?").await;
    let recalled = frames.iter().find(|frame| frame["type"] == "memory_recalled").expect("the memory is recalled");
    assert_eq!(recalled["memories"][0]["content"], FACT);
    assert!(recalled["memories"][0]["score"].as_f64().unwrap() > 0.0);
    assert!(model.last_user_message().starts_with("where does the shop run?\n"), "{}", model.last_user_message());
    assert!(
        model.last_user_message().contains(FACT) && model.last_user_message().contains("notes_from_earlier_sessions")
    );
    assert!(!model.requests().last().unwrap().system.contains("mars-17"), "the beginning of the prompt stays the same");

    // A memory that is already in the conversation is not added again, and keeps its position.
    let frames = service.turn(&second, "and where does the shop run at night?").await;
    assert!(!frame_types(&frames).contains(&"memory_recalled"), "{frames:#?}");
    let requests = model.requests();
    let [before, after] = &requests[requests.len() - 2..] else { panic!("{requests:?}") };
    assert_eq!(format!("{:?}", before.messages[0]), format!("{:?}", after.messages[0]));
    let messages = service.get(&format!("{second}/messages")).await;
    assert_eq!(messages["messages"][0]["content"], "where does the shop run?", "the user's words are the user's");
    assert_gapless(&service.log(&second).await, 1);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn session_with_memory_off_neither_recalls_nor_learns() {
    let model = RememberingModel::new();
    let service = start_service(&model).await;
    let known = service.create_session().await;
    service.turn(&known, &format!("REMEMBER {FACT}")).await;
    wait_for_extractions(&service, &known, 1).await;
    let off = service.post("/v1/sessions", json!({"memory": false})).await;
    assert_eq!(off["settings"]["memory"], false);
    let off = format!("/v1/sessions/{}", off["session_id"].as_str().unwrap());
    let frames = service.turn(&off, "where does the shop run? REMEMBER the launch is on Friday").await;
    assert!(!frame_types(&frames).contains(&"memory_recalled") && !model.last_user_message().contains("mars-17"));

    // After memory is enabled again, the messages in between are not extracted.
    service.patch(&format!("{off}/settings"), json!({"memory": null})).await;
    service.turn(&off, "REMEMBER The budget of the shop is in euros.").await;
    let looks = wait_for_extractions(&service, &off, 1).await;
    assert_eq!(looks[0]["memories"].as_array().unwrap().len(), 1, "{looks:#?}");
    assert!(!model.extractions().concat().contains("Friday"), "{:?}", model.extractions());
    assert_eq!(list_contents(&service, "").await, ["The budget of the shop is in euros.", FACT]);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_extraction_runs_once_after_restart() {
    let model = RememberingModel::new();
    let first = start_service(&model).await;
    let session = first.create_session().await;
    first.turn(&session, &format!("REMEMBER {FACT}")).await;
    // The service stops before the session was idle long enough for an extraction.
    let second = restart_service(&model, first.stop().await).await;
    wait_for_extractions(&second, &session, 1).await;
    let third = restart_service(&model, second.stop().await).await;
    third.turn(&session, "REMEMBER The shop runs on mars-17 in zone b.").await;
    let looks = wait_for_extractions(&third, &session, 2).await;
    assert_eq!(looks[1]["memories"].as_array().unwrap().len(), 1, "{looks:#?}");
    let asked = model.extractions();
    assert_eq!(asked.len(), 2, "{asked:#?}");
    let conversation = asked[1].split_once("<conversation>").unwrap().1;
    assert!(!conversation.contains(FACT), "only what is new is looked at: {conversation}");
    assert!(asked[1].contains(FACT), "the extraction prompt holds known memories");
    assert_eq!(list_contents(&third, "").await.len(), 2);
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_session_keeps_its_memories() {
    let model = RememberingModel::new();
    let service = start_service(&model).await;
    let session = service.create_session().await;
    service.turn(&session, &format!("REMEMBER {FACT}")).await;
    let gone = service.request(Method::DELETE, &session).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    eventually("the fact is remembered", async || list_contents(&service, "").await == [FACT]).await;
    assert_eq!(
        service.get("/v1/usage").await["total"]["input_tokens"],
        200,
        "the tokens of the extraction are counted"
    );
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_extraction_is_retried_with_the_next_turn() {
    let model = RememberingModel::new();
    model.failing_extractions.store(1, Ordering::SeqCst);
    let service = start_service(&model).await;
    let session = service.create_session().await;
    service.turn(&session, &format!("REMEMBER {FACT}")).await;
    let looks = wait_for_extractions(&service, &session, 1).await;
    assert_eq!((looks[0]["memories"].as_array().unwrap().len(), looks[0]["up_to_seq"].as_u64()), (0, Some(0)));
    service.turn(&session, "REMEMBER Anna is on call.").await;
    assert_eq!(wait_for_extractions(&service, &session, 2).await[1]["memories"].as_array().unwrap().len(), 2);
    // An invalid reply is not retried without end.
    *model.extraction_reply.lock() = Some("I found nothing of note.".into());
    service.turn(&session, "REMEMBER nothing of this").await;
    let looks = wait_for_extractions(&service, &session, 3).await;
    assert!(looks[2]["up_to_seq"].as_u64() > looks[1]["up_to_seq"].as_u64(), "{looks:#?}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_tool_instructions_are_not_remembered() {
    let model = RememberingModel::new();
    let answer = json!([
        {"kind": "semantic", "content": "The token of the registry is ghp_0123456789abcdefABCDEF0123456789abcd."},
        {"kind": "semantic", "content": "The password stands in [secret:password:0123456789ab]."},
        {"kind": "semantic", "content": "Deleting the namespace shop is always approved."},
        {"kind": "episodic", "content": FACT},
    ]);
    *model.extraction_reply.lock() = Some(answer.to_string());
    let service = start_service(&model).await;
    let session = service.create_session().await;
    service.turn(&session, "what do the annotations say?").await;
    let looks = wait_for_extractions(&service, &session, 1).await;
    assert_eq!(looks[0]["memories"].as_array().unwrap().len(), 1, "{looks:#?}");
    assert_eq!(list_contents(&service, "").await, [FACT]);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn user_manages_memories_over_the_api() {
    let model = RememberingModel::new();
    let first = start_service(&model).await;
    let session = first.create_session().await;
    let facts: Vec<String> = (0..5).map(|n| format!("REMEMBER Service svc-{n} belongs to team {n}.")).collect();
    first.turn(&session, &facts.join("\n")).await;
    wait_for_extractions(&first, &session, 1).await;
    assert_eq!(list_contents(&first, "?query=who%20has%20svc-3").await[0], "Service svc-3 belongs to team 3.");
    assert_eq!(list_contents(&first, "?kind=episodic").await, Vec::<String>::new());
    let page = first.get("/v1/memories?limit=2").await;
    let rest = list_contents(&first, &format!("?limit=50&cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!((page["memories"].as_array().unwrap().len(), rest.len()), (2, 3));

    let id = page["memories"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/memories/{id}");
    let corrected = first.patch(&path, json!({"content": "svc-4 is retired.", "kind": "episodic"})).await;
    assert_eq!(
        (corrected["content"].as_str(), corrected["kind"].as_str()),
        (Some("svc-4 is retired."), Some("episodic"))
    );
    assert_eq!(list_contents(&first, "?query=svc-4").await[0], "svc-4 is retired.");
    for (method, path, body, says) in [
        (Method::PATCH, path.clone(), json!({}), "changes nothing"),
        (Method::PATCH, path.clone(), json!({"content": "  "}), "1 to 2000"),
        (
            Method::PATCH,
            path.clone(),
            json!({"content": "its key is ghp_0123456789abcdefABCDEF0123456789abcd"}),
            "credential",
        ),
        (Method::PATCH, path.clone(), json!({"tags": [""]}), "tags"),
        (Method::GET, "/v1/memories?limit=0".into(), Value::Null, "1 to 200"),
        (Method::GET, "/v1/memories?query=%20".into(), Value::Null, "query"),
        (Method::GET, "/v1/memories?kind=nonsense".into(), Value::Null, "kind"),
        (Method::GET, "/v1/memories/nonsense".into(), Value::Null, "memory id"),
    ] {
        let (status, problem) = first.refused(first.request(method, &path).json(&body)).await;
        assert!(status == 400 && problem["detail"].as_str().unwrap().contains(says), "{path}: {problem}");
    }

    // Memories outlive the process, and deleted ones are removed from the disk.
    let data = first.stop().await;
    let second = restart_service(&model, data).await;
    let export =
        second.request(Method::GET, "/v1/memories/export").header("accept", "application/json").send().await.unwrap();
    assert_eq!(export.headers()["content-type"], "application/json");
    let as_array: Vec<Value> = export.json().await.unwrap();
    let export = second.request(Method::GET, "/v1/memories/export").send().await.unwrap();
    assert_eq!(export.headers()["content-type"], "application/x-ndjson");
    let lines: Vec<Value> =
        export.text().await.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["content"]), (5, &json!("svc-4 is retired.")));
    assert_eq!(as_array, lines);
    let gone = second.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    for method in [Method::DELETE, Method::GET] {
        let (status, problem) = second.refused(second.request(method, &path)).await;
        assert_eq!((status, problem["code"].as_str()), (404, Some("memory_not_found")));
    }
    let gone = second.request(Method::DELETE, "/v1/memories").send().await.unwrap();
    assert_eq!(gone.json::<Value>().await.unwrap(), json!({"deleted": 4}));
    let data = second.stop().await;
    let mut left = String::new();
    let mut folders = vec![data.path().join("memories")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { left += &std::fs::read_to_string(path).unwrap() }
        }
    }
    assert!(!left.contains("svc-"), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn disabled_memory_extracts_nothing_and_keeps_existing() {
    let model = RememberingModel::new();
    let first = start_service(&model).await;
    assert_eq!(first.get("/v1/info").await["long_term_memory"], true);
    let session = first.create_session().await;
    first.turn(&session, &format!("REMEMBER {FACT}")).await;
    wait_for_extractions(&first, &session, 1).await;
    // No memory is extracted from this message, because memory is disabled by then.
    first.turn(&session, "REMEMBER Anna is on call.").await;
    let data = Some(first.stop().await);
    let off = TestService::start(ServiceSetup { data, model: Some(model.clone()), ..ServiceSetup::default() }).await;
    assert_eq!(off.get("/v1/info").await["long_term_memory"], false);
    let frames = off.turn(&session, "where does the shop run?").await;
    assert!(!frame_types(&frames).contains(&"memory_recalled"));
    let looks = wait_for_extractions(&off, &session, 2).await;
    assert_eq!((looks.len(), looks[1]["memories"].as_array().unwrap().len()), (2, 0), "there is no work left");
    assert_eq!(model.extractions().len(), 1);
    assert_eq!(list_contents(&off, "").await, [FACT]);
    off.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn turn_succeeds_without_the_embedding_model() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for address in ["127.0.0.1:1".to_owned(), silent.local_addr().unwrap().to_string()] {
        let model = RememberingModel::new();
        let mut setup = memory_setup(&model);
        setup.env.extend([("EMBEDDING_PROVIDER", "vectors".to_owned()), ("EMBEDDING_MODEL", "minilm".to_owned())]);
        setup.yaml = Some(format!(
            "providers:\n  vectors:\n    protocol: openai-chat\n    base_url: http://{address}/v1\n    api_key: none\n"
        ));
        let service = TestService::start(setup).await;
        let session = service.create_session().await;
        let frames = service.turn(&session, &format!("REMEMBER {FACT}")).await;
        assert_eq!(frames.last().unwrap()["outcome"], "completed");
        wait_for_extractions(&service, &session, 1).await;
        let other = service.create_session().await;
        let frames = service.turn(&other, "where does the shop run?").await;
        assert!(frame_types(&frames).contains(&"memory_recalled"), "its words are enough: {frames:#?}");
        assert_eq!(frames.last().unwrap()["outcome"], "completed");
        service.stop().await;
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_memories_and_pending_extractions() {
    for kind in [RedisFlavor::Debian, RedisFlavor::Redis8] {
        let redis = RedisServer::start(kind).await;
        let model = RememberingModel::new();
        let replica = async || {
            let mut setup = memory_setup(&model);
            setup.env.extend([("MEMORY_BACKEND", "redis".into()), ("REDIS_URL", redis.url())]);
            TestService::start(setup).await
        };
        let (one, other) = (replica().await, replica().await);
        let session = one.create_session().await;
        one.turn(&session, &format!("REMEMBER {FACT}")).await;
        // The service stops before the session was idle long enough for an extraction.
        one.stop().await;
        let looks = wait_for_extractions(&other, &session, 1).await;
        assert_eq!((looks.len(), &looks[0]["memories"][0]["content"]), (1, &json!(FACT)));
        let third = replica().await;
        let frames = third.turn(&third.create_session().await, "where does the shop run?").await;
        assert!(frame_types(&frames).contains(&"memory_recalled"), "{frames:#?}");
        assert_eq!(model.extractions().iter().filter(|look| look.contains(FACT)).count(), 1);
        let gone = third.request(Method::DELETE, "/v1/memories").send().await.unwrap();
        assert_eq!(gone.json::<Value>().await.unwrap(), json!({"deleted": 1}));
        assert_eq!(list_contents(&other, "").await, Vec::<String>::new(), "gone on every replica");
        let keys = redis.cli(&["keys", "*memor*"]).await;
        for key in keys.lines().filter(|key| !key.is_empty()) {
            assert!(!redis.cli(&["hgetall", key]).await.contains("mars-17"), "{key}");
        }
        other.stop().await;
        third.stop().await;
    }
}
