//! One conversation that switches between all providers, with tool calls: each request is valid for its API, and
//! nothing is lost.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::service::{ServiceSetup, TestService};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    provider::{FakeProviders, ProviderApi, ReceivedRequest},
    testbed,
};

/// Validates requests with the types of the providers' SDKs. Returns one line per request.
async fn validate_requests(requests: &[ReceivedRequest]) -> String {
    let line = |r: &ReceivedRequest| format!("{}\n", json!({"api": r.api.unwrap().protocol(), "body": r.body}));
    let lines = requests.iter().map(line).collect::<Vec<_>>().concat();
    let mut validator = Command::new(testbed::path("K8SOPS_TEST_PYTHON"))
        .arg(testbed::path("K8SOPS_TEST_WIRE"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    validator.stdin.take().unwrap().write_all(lines.as_bytes()).await.unwrap();
    let output = validator.wait_with_output().await.unwrap();
    let results = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(results.lines().count(), requests.len(), "{results}");
    results
}

fn body_text(request: &ReceivedRequest) -> String {
    request.body.to_string()
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn conversation_switches_between_all_providers() {
    let providers = FakeProviders::start().await;
    let tools = CountingMcpServer::new();
    let env = vec![("LLM_PROVIDER", "test-anthropic".to_owned()), ("LLM_MODEL", "m-anthropic".into())];
    let setup = ServiceSetup {
        env,
        yaml: Some(providers.settings_yaml()),
        servers: vec![tools.connector()],
        ..ServiceSetup::default()
    };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;

    let order = [
        ProviderApi::Anthropic,
        ProviderApi::Responses,
        ProviderApi::Ollama,
        ProviderApi::Chat,
        ProviderApi::Anthropic,
        ProviderApi::Responses,
    ];
    let model = |dialect: ProviderApi| format!("m-{}", dialect.protocol());
    for (n, dialect) in order.into_iter().enumerate() {
        service
            .patch(
                &format!("{session}/settings"),
                json!({"provider": dialect.provider_name(), "model": model(dialect), "reasoning": "low"}),
            )
            .await;
        let thought = dialect.reasoning_call(&format!("thought-{n}"), &format!("I look, {n}."), "look", "{}");
        // Calls that other providers would reject: arguments that are not JSON, and an invalid tool name.
        let odd = dialect.call("no such/tool", "{\"half\": ");
        providers.script(dialect, &model(dialect), [thought, odd, dialect.text(&format!("answer-{n}"))]);
        let frames = service.turn(&session, &format!("question-{n}")).await;
        let last = frames.last().unwrap();
        assert_eq!(last["outcome"], "completed", "{dialect:?}: {frames:#?}");
        let shown: Vec<&Value> = frames.iter().filter(|f| f["type"] == "assistant_message").collect();
        assert_eq!((shown.len(), &shown[0]["reasoning"]), (3, &json!(format!("thought-{n}"))), "{dialect:?}");
    }
    assert_eq!(tools.count_calls("look"), order.len());

    let of = |dialect: ProviderApi| providers.received(dialect, &model(dialect));
    let all: Vec<ReceivedRequest> = ProviderApi::ALL.into_iter().flat_map(of).collect();
    assert_eq!(all.len(), 3 * order.len());
    let said = validate_requests(&all).await;
    assert!(said.lines().all(|line| line.ends_with(" ok")), "{said}");

    // Every request holds all messages so far.
    let last = of(ProviderApi::Responses).pop().unwrap();
    for n in 0..order.len() {
        for part in [format!("question-{n}"), format!("I look, {n}.")] {
            assert!(body_text(&last).contains(&part), "{part} in {}", body_text(&last));
        }
    }
    assert_eq!(body_text(&last).matches("function_call_output").count(), 2 * order.len());
    // Reasoning is sent only to the model that produced it.
    let sealed = |request: &ReceivedRequest| {
        let text = body_text(request);
        (text.matches("sealed-by-anthropic").count(), text.matches("sealed-by-openai").count())
    };
    let seen: Vec<_> = of(ProviderApi::Anthropic).iter().map(sealed).collect();
    assert_eq!(seen, [(0, 0), (1, 0), (1, 0), (1, 0), (2, 0), (2, 0)]);
    let seen: Vec<_> = of(ProviderApi::Responses).iter().map(sealed).collect();
    assert_eq!(seen, [(0, 0), (0, 1), (0, 1), (0, 1), (0, 2), (0, 2)]);
    for dialect in [ProviderApi::Ollama, ProviderApi::Chat] {
        assert!(of(dialect).iter().all(|r| sealed(r) == (0, 0)), "{dialect:?}");
        let thoughts: Vec<_> = of(dialect).iter().map(|r| body_text(r).matches("thought-").count()).collect();
        assert_eq!(thoughts, [0, 1, 1], "its own, within the turn: {dialect:?}");
    }
    service.stop().await;
}
