//! Conversations that exceed the context window: they are summarized in time, clients see it, and the log keeps all
//! events.

use serde_json::{Value, json};

use crate::service::{ServiceSetup, TestService, assert_gapless, frame_types};
use k8sops_testing::provider::{FakeProviders, GOOD_REPLY, ProviderApi};

fn provider_yaml(providers: &FakeProviders) -> String {
    format!(
        "providers:\n  small:\n    protocol: openai-chat\n    base_url: {}\n    api_key: none\n    models:\n    - {{id: m, context_window: 4000}}\n",
        providers.url
    )
}

async fn start_service(providers: &FakeProviders, data: Option<tempfile::TempDir>, shallow: bool) -> TestService {
    let env = vec![("LLM_PROVIDER", "small".to_owned()), ("MEMORY_SHALLOW", shallow.to_string())];
    TestService::start(ServiceSetup { env, yaml: Some(provider_yaml(providers)), data, ..ServiceSetup::default() })
        .await
}

fn long_question(n: usize) -> String {
    format!("question {n}: {}", "what of the pods that were restarted in the night? ".repeat(20))
}

#[tokio::test(flavor = "multi_thread")]
async fn summarized_conversation_continues_after_restart() {
    for shallow in [false, true] {
        let providers = FakeProviders::start().await;
        let first = start_service(&providers, None, shallow).await;
        let session = first.create_session().await;
        let mut frames = Vec::new();
        let mut turns = 0;
        while !frame_types(&frames).contains(&"context_compacted") {
            frames = first.turn(&session, &long_question(turns)).await;
            assert_eq!(frames.last().unwrap()["outcome"], "completed", "{frames:#?}");
            turns += 1;
            assert!(turns < 60, "no summary after 60 turns");
        }
        let compacted = frames.iter().find(|f| f["type"] == "context_compacted").unwrap();
        assert_eq!(compacted["summary"], GOOD_REPLY, "the summary is the reply of the model");
        let tokens = |field: &str| compacted[field].as_u64().unwrap();
        assert!(tokens("tokens_after") < tokens("tokens_before") && tokens("tokens_before") > 3000, "{compacted}");
        assert_eq!(compacted["usage"]["input_tokens"], 100);
        let requests = providers.received(ProviderApi::Chat, "m");
        let text = |at: usize| requests[at].body["messages"].to_string();
        let last = requests.len() - 1;
        assert!(text(last - 1).contains("You write the summary") && text(last - 1).contains("question 0"));
        assert_eq!(requests[last - 1].body.get("tools"), None);
        assert!(text(last).contains("summary_of_the_conversation_so_far") && !text(last).contains("question 0"));
        assert!(text(last).len() < text(last - 2).len(), "the request after the summary is smaller");

        // The log still holds the whole conversation.
        let messages = first.get(&format!("{session}/messages?limit=100")).await;
        let contents: Vec<&Value> = messages["messages"].as_array().unwrap().iter().map(|m| &m["content"]).collect();
        assert!(contents.contains(&&json!(long_question(turns - 1))));
        if !shallow {
            assert!(contents.contains(&&json!(long_question(0))));
            assert_gapless(&first.log(&session).await, 1);
        }

        // Another process continues from the summary.
        let second = start_service(&providers, Some(first.stop().await), shallow).await;
        let frames = second.turn(&session, "and now?").await;
        assert_eq!(frames.last().unwrap()["outcome"], "completed");
        let sent = providers.received(ProviderApi::Chat, "m").pop().unwrap().body["messages"].to_string();
        assert!(sent.contains("summary_of_the_conversation_so_far") && !sent.contains("question 0"));
        second.stop().await;
    }
}
