//! Questions of MCP servers over A2A, for programs that know kagent's extension `hitl/v1`.

use k8sops_testing::{
    asking_server::AskingMcpServer,
    scripted_model::{ScriptedModel, call, text},
};
use serde_json::{Value, json};

use crate::{
    a2a_client::{HITL, failed_call, message, rpc_request, send, session, state, status_text, with_answers},
    service::{ServiceSetup, TestService},
};

/// Starts a service whose tool asks for a form or an address. Returns it with the task that waits, and what the extension says.
async fn start_with_question(server: &AskingMcpServer) -> (TestService, Value, Value) {
    let model = ScriptedModel::new([vec![call("ask", json!({}))], vec![text("Done.")]]);
    let env = vec![("TOOL_APPROVAL", "auto".to_owned())];
    let servers = vec![server.connector()];
    let service =
        TestService::start(ServiceSetup { env, model: Some(model), servers, ..ServiceSetup::default() }).await;
    service.wait_for_mcp_servers().await;
    let request = rpc_request(&service, "SendMessage", &message("m-1", "ask me")).header("a2a-extensions", HITL);
    let task = request.send().await.unwrap().json::<Value>().await.unwrap()["result"]["task"].clone();
    assert_eq!(state(&task), "TASK_STATE_INPUT_REQUIRED", "{task}");
    assert_eq!(task["status"]["message"]["extensions"], json!([HITL]));
    let asked = task["status"]["message"]["metadata"][HITL].clone();
    assert_eq!(asked["type"], "ask_user_request");
    (service, task, asked)
}

fn response(asked: &Value, answers: &[&[&str]]) -> Value {
    let answers: Vec<Value> = answers.iter().map(|answer| json!({"answer": answer})).collect();
    json!({"type": "ask_user_response", "id": asked["id"], "answers": answers})
}

fn form() -> Value {
    json!({"type": "object", "required": ["name", "count"], "properties": {
        "name": {"type": "string", "title": "Name"},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "sure": {"type": "boolean", "description": "Sure?"},
        "zone": {"type": "string", "enum": ["a", "b"]},
        "tags": {"type": "array", "items": {"type": "string", "enum": ["x", "y", "z"]}},
    }})
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_a_form_are_questions_that_a_program_answers() {
    let server = AskingMcpServer::for_form("Where?", &form());
    let (service, task, asked) = start_with_question(&server).await;
    let questions = asked["questions"].as_array().unwrap();
    let described: Vec<(&str, &Value, &Value)> =
        questions.iter().map(|q| (q["question"].as_str().unwrap(), &q["choices"], &q["multiple"])).collect();
    // The fields come in the order of their names: JSON objects have none.
    assert_eq!(
        described,
        [
            ("Where? (count)", &json!([]), &json!(false)),
            ("Where? (Name)", &json!([]), &json!(false)),
            ("Where? (Sure?)", &json!(["true", "false"]), &json!(false)),
            ("Where? (tags)", &json!(["x", "y", "z"]), &json!(true)),
            ("Where? (zone)", &json!(["a", "b"]), &json!(false)),
        ]
    );
    // Every question is in the text, for people.
    assert!(status_text(&task).contains("Where?"), "{task}");
    let answer = |answers: &[&[&str]]| with_answers(&task, "m-2", response(&asked, answers));
    let mut of_other = answer(&[&["3"], &["Anna"], &["true"], &["x"], &["b"]]);
    of_other["message"]["metadata"][HITL]["id"] = "other".into();
    for wrong in [
        of_other,
        answer(&[&["3"], &["Anna"], &["true"], &["x"]]),
        answer(&[&["3"], &["Anna", "Ben"], &["true"], &["x"], &["b"]]),
        answer(&[&["30"], &["Anna"], &["true"], &["x"], &["b"]]),
        answer(&[&["three"], &["Anna"], &["true"], &["x"], &["b"]]),
        answer(&[&["3"], &["Anna"], &["perhaps"], &["x"], &["b"]]),
        answer(&[&["3"], &["Anna"], &["true"], &["w"], &["b"]]),
        answer(&[&["3"], &["Anna"], &["true"], &["x"], &["c"]]),
        // What the form requires.
        answer(&[&[], &["Anna"], &["true"], &["x"], &["b"]]),
    ] {
        assert_eq!(failed_call(&service, "SendMessage", wrong.clone()).await.0, -32602, "{wrong}");
    }
    assert_eq!(server.answers(), Vec::<Value>::new());
    let done = send(&service, answer(&[&["3"], &["Anna"], &["true"], &["x", "z"], &["b"]])).await;
    assert_eq!((&done["id"], state(&done)), (&task["id"], "TASK_STATE_COMPLETED"));
    let content = json!({"count": 3, "name": "Anna", "sure": true, "tags": ["x", "z"], "zone": "b"});
    assert_eq!(server.answers(), [json!({"action": "accept", "content": content})]);
    let late = failed_call(&service, "SendMessage", answer(&[&["3"], &["Anna"], &["true"], &["x"], &["b"]])).await;
    assert_eq!(late, (-32004, "UNSUPPORTED_OPERATION".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn field_that_is_not_required_can_be_left_open() {
    let server = AskingMcpServer::for_form("Where?", &form());
    let (service, task, asked) = start_with_question(&server).await;
    // Clients send an empty list, or an empty text of an empty box.
    let answers = response(&asked, &[&["3"], &["Anna"], &[], &[], &[""]]);
    assert_eq!(state(&send(&service, with_answers(&task, "m-2", answers)).await), "TASK_STATE_COMPLETED");
    assert_eq!(server.answers(), [json!({"action": "accept", "content": {"count": 3, "name": "Anna"}})]);
}

#[tokio::test(flavor = "multi_thread")]
async fn question_without_a_form_is_accepted_or_declined() {
    for (word, action) in [("accept", "accept"), ("decline", "decline")] {
        let server = AskingMcpServer::for_form("May I?", &json!({"type": "object", "properties": {}}));
        let (service, task, asked) = start_with_question(&server).await;
        let question = json!({"question": "May I?", "choices": ["accept", "decline"], "multiple": false});
        assert_eq!(asked["questions"], json!([question]));
        let unclear = with_answers(&task, "m-2", response(&asked, &[&["maybe"]]));
        assert_eq!(failed_call(&service, "SendMessage", unclear).await.0, -32602);
        let answer = with_answers(&task, "m-3", response(&asked, &[&[word]]));
        assert_eq!(state(&send(&service, answer).await), "TASK_STATE_COMPLETED");
        assert_eq!(server.answers()[0]["action"], action);
        let resolved = service.log(&session(&task)).await;
        let resolved = resolved.iter().find(|event| event["type"] == "input_resolved").unwrap();
        assert_eq!(resolved["action"], action);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn form_can_be_declined_in_words() {
    let server = AskingMcpServer::for_form("Where?", &form());
    let (service, task, _) = start_with_question(&server).await;
    let says = status_text(&task);
    let words = says.split('`').find(|words| words.starts_with("decline ")).unwrap_or_else(|| panic!("{says}"));
    let mut decline = message("m-2", words);
    decline["message"]["taskId"] = task["id"].clone();
    assert_eq!(state(&send(&service, decline).await), "TASK_STATE_COMPLETED");
    assert_eq!(server.answers()[0]["action"], "decline");
}
