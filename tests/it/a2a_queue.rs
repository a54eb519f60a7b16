//! Tasks of A2A that are queued behind a task which waits for its user.

use serde_json::{Value, json};

use crate::{
    a2a_client::{
        StreamedItems, call_method, get_task, in_context, rpc_request, send, state, status_text, texts, to_task,
    },
    service::TestService,
};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    eventually,
    scripted_model::{ReplyStep, TestGate, call, text},
};

/// Starts a service whose first task asks for an approval once the gate is open. Returns it with that task.
async fn start_with_task_before(gate: &TestGate, tools: &CountingMcpServer) -> (TestService, Value) {
    let first = vec![text("I "), ReplyStep::Wait(gate.clone()), call("change", json!({}))];
    let service = TestService::with_tools(vec![first, vec![text("1")], vec![text("2")]], tools).await;
    let mut params = in_context("c", "m-1", "change it");
    params["configuration"] = json!({"returnImmediately": true});
    let task = send(&service, params).await;
    gate.arrived().await;
    (service, task)
}

fn approval_words(says: &str) -> &str {
    says.split('`').find(|words| words.starts_with("approve ")).unwrap_or_else(|| panic!("{says}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_task_says_what_its_context_waits_for() {
    let (tools, gate) = (CountingMcpServer::new(), TestGate::new());
    let first = vec![text("I "), ReplyStep::Wait(gate.clone()), call("change", json!({}))];
    let service = TestService::with_tools(vec![first, vec![text("1")], vec![text("2")]], &tools).await;
    let mut sent = Vec::new();
    for id in ["m-1", "m-2"] {
        let mut params = in_context("c", id, "change it");
        params["configuration"] = json!({"returnImmediately": true});
        sent.push(send(&service, params).await);
        if id == "m-1" {
            gate.arrived().await;
        }
    }
    gate.open();
    eventually("the first task waits", async || {
        state(&get_task(&service, &sent[0]).await) == "TASK_STATE_INPUT_REQUIRED"
    })
    .await;
    let queued = get_task(&service, &sent[1]).await;
    assert_eq!(state(&queued), "TASK_STATE_SUBMITTED");
    let says = status_text(&queued);
    let words = says.split('`').find(|words| words.starts_with("approve ")).unwrap_or_else(|| panic!("{says}"));
    assert_eq!(send(&service, to_task(&sent[0], "m-3", words)).await["id"], sent[0]["id"]);
    eventually("the second task is completed", async || texts(&get_task(&service, &sent[1]).await) == ["2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocking_send_is_answered_when_the_task_before_begins_to_wait() {
    let (tools, gate) = (CountingMcpServer::new(), TestGate::new());
    let (service, first) = start_with_task_before(&gate, &tools).await;
    let queue = async {
        eventually("the second task is queued", async || {
            call_method(&service, "ListTasks", json!({"contextId": "c"})).await["totalSize"] == 2
        })
        .await;
        gate.open();
    };
    let (queued, ()) = tokio::join!(send(&service, in_context("c", "m-2", "and then?")), queue);
    assert_eq!((state(&queued), &queued["history"][0]["messageId"]), ("TASK_STATE_SUBMITTED", &json!("m-2")));
    assert_eq!(queued["status"]["message"]["metadata"]["k8sops"]["waitsForTask"], first["id"]);
    let says = status_text(&queued);
    // The same message again is the same task, and does not wait in silence either.
    let again = send(&service, in_context("c", "m-2", "and then?")).await;
    assert_eq!((&again["id"], status_text(&again)), (&queued["id"], says.clone()));
    // Words are for what the context waits for.
    let answered = send(&service, in_context("c", "m-3", approval_words(&says))).await;
    assert_eq!((&answered["id"], state(&answered)), (&first["id"], "TASK_STATE_COMPLETED"));
    eventually("the second task is completed", async || texts(&get_task(&service, &queued).await) == ["2"]).await;
    assert_eq!(tools.count_calls("change"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_of_a_queued_task_says_what_the_task_before_waits_for_and_goes_on() {
    let (tools, gate) = (CountingMcpServer::new(), TestGate::new());
    let (service, first) = start_with_task_before(&gate, &tools).await;
    let request = rpc_request(&service, "SendStreamingMessage", &in_context("c", "m-2", "and then?"));
    let mut sent = StreamedItems::read(request.send().await.unwrap());
    let queued = sent.next().await.unwrap()["task"].clone();
    assert_eq!(state(&queued), "TASK_STATE_SUBMITTED");
    let request = rpc_request(&service, "SubscribeToTask", &json!({"id": queued["id"]}));
    let mut subscribed = StreamedItems::read(request.send().await.unwrap());
    subscribed.next().await.unwrap();
    gate.open();
    for stream in [&mut sent, &mut subscribed] {
        let update = stream.next().await.unwrap()["statusUpdate"].clone();
        assert_eq!((state(&update), &update["taskId"]), ("TASK_STATE_SUBMITTED", &queued["id"]));
        assert_eq!(update["status"]["message"]["metadata"]["k8sops"]["waitsForTask"], first["id"]);
        approval_words(&status_text(&update));
    }
    let waiting = get_task(&service, &first).await;
    send(&service, to_task(&first, "m-3", approval_words(&status_text(&waiting)))).await;
    for stream in [&mut sent, &mut subscribed] {
        let mut states = Vec::new();
        while let Some(item) = stream.next().await {
            states.extend(item["statusUpdate"]["status"]["state"].as_str().map(str::to_owned));
        }
        assert_eq!(states, ["TASK_STATE_WORKING", "TASK_STATE_COMPLETED"]);
    }
    assert_eq!(texts(&get_task(&service, &queued).await), ["2"]);
}
