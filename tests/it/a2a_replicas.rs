//! A2A while another replica owns the session, and after that replica is gone.

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    a2a_client::{HTTP, RPC, applied, in_context, items, state, texts},
    program::TestProgram,
    two_replicas::TwoReplicas,
};
use k8sops_testing::{eventually, provider::ProviderApi};

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn task_is_followed_on_another_replica_that_takes_it_over() {
    let TwoReplicas { redis, providers, one: owner, other } = TwoReplicas::start().await;
    providers.script(ProviderApi::Chat, "m", ["hello", "the answer"].map(|text| ProviderApi::Chat.text(text)));
    let send = async |program: &TestProgram, id: &str| {
        let mut params = in_context("c", id, "hi");
        params["configuration"] = json!({"returnImmediately": true});
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params});
        let response = program.request(Method::POST, RPC).json(&body).send().await.unwrap();
        response.json::<Value>().await.unwrap()["result"]["task"].clone()
    };
    let get = async |program: &TestProgram, task: &Value| {
        program.get(&format!("{HTTP}/tasks/{}", task["id"].as_str().unwrap())).await
    };
    let first = send(&owner, "m-1").await;
    eventually("the first task is completed", async || state(&get(&other, &first).await) == "TASK_STATE_COMPLETED")
        .await;
    // The owner no longer answers: the task waits in the inbox, and any replica knows it. On a busy machine, its lease could
    // expire before it is asked for.
    owner.process.send_signal(Signal::SIGSTOP);
    let sessions = other.get("/v1/sessions").await;
    let meta = format!("k8sops:{{{}}}:meta", sessions["sessions"][0]["session_id"].as_str().unwrap());
    let set_lease_end = async |end: &str| redis.cli(&["hset", &meta, "until", end]).await;
    set_lease_end("9999999999999").await;
    let second = send(&other, "m-2").await;
    assert_eq!(state(&get(&other, &second).await), "TASK_STATE_SUBMITTED");
    let path = format!("{HTTP}/tasks/{}:subscribe", second["id"].as_str().unwrap());
    let subscribed = other.request(Method::GET, &path).send().await.unwrap();
    owner.process.send_signal(Signal::SIGKILL);
    set_lease_end("0").await;
    let seen = applied(&items(subscribed).await);
    assert_eq!((state(&seen), texts(&seen)), ("TASK_STATE_COMPLETED", vec!["the answer"]));
    assert_eq!(texts(&get(&other, &second).await), ["the answer"]);
    // The message again is the same task.
    assert_eq!(send(&other, "m-2").await["id"], second["id"]);
    other.stop().await;
}
