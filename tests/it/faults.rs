//! Faults of providers in each protocol: each ends in a finished turn or in one `run_failed` with its code, and the
//! session stays usable.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::service::{ServiceSetup, TestService, assert_gapless, frame_types, shown_text};
use k8sops_testing::provider::{FakeProviders, GOOD_REPLY, ProviderApi, ScriptedResponse};

/// The expected end of a turn with a fault.
enum ExpectedEnd {
    /// A reply, after a warning with this code, if any.
    Replied(Option<&'static str>),
    /// A failed run with this code.
    Failed(&'static str),
}
use ExpectedEnd::{Failed, Replied};

struct ProviderFault {
    name: &'static str,
    answers: Vec<ScriptedResponse>,
    /// Whether a successful turn precedes the fault.
    history: bool,
    expect: ExpectedEnd,
    /// Expected number of requests.
    requests: usize,
}

fn simple_fault(
    name: &'static str,
    answers: Vec<ScriptedResponse>,
    requests: usize,
    expect: ExpectedEnd,
) -> ProviderFault {
    ProviderFault { name, answers, history: false, expect, requests }
}

fn list_faults(d: ProviderApi) -> Vec<ProviderFault> {
    let refusal = |status, kind, message| d.error_response(status, kind, message);
    let overloaded = |status| refusal(status, "overloaded_error", "Overloaded, try again");
    let retried = || Replied(Some("overloaded"));
    let damaged = || Replied(Some("malformed_stream"));
    let too_long = "prompt is too long: this model's maximum context length is 1000 tokens";
    let too_long = |status| ProviderFault {
        history: true,
        ..simple_fault(
            if status == 413 { "413" } else { "context-too-long" },
            vec![refusal(status, "invalid_request_error", too_long)],
            2,
            Replied(Some("context_too_long")),
        )
    };
    vec![
        simple_fault("401", vec![refusal(401, "authentication_error", "invalid key")], 1, Failed("auth")),
        simple_fault("403", vec![refusal(403, "permission_error", "not for you")], 1, Failed("auth")),
        simple_fault(
            "404-model",
            vec![refusal(404, "not_found_error", "model: 404-model not found")],
            1,
            Failed("model_not_found"),
        ),
        too_long(400),
        too_long(413),
        simple_fault(
            "429-with-a-time",
            vec![refusal(429, "rate_limit_error", "slow down").header("retry-after", "1")],
            2,
            Replied(Some("rate_limited")),
        ),
        simple_fault(
            "429-without",
            vec![refusal(429, "rate_limit_error", "slow down")],
            2,
            Replied(Some("rate_limited")),
        ),
        simple_fault(
            "429-for-too-long",
            vec![refusal(429, "rate_limit_error", "slow down").header("retry-after", "3600")],
            1,
            Failed("rate_limited"),
        ),
        simple_fault(
            "quota",
            vec![refusal(429, "insufficient_quota", "You exceeded your current quota")],
            1,
            Failed("quota_exhausted"),
        ),
        simple_fault("500", vec![overloaded(500)], 2, retried()),
        simple_fault("502", vec![overloaded(502)], 2, retried()),
        simple_fault("503", vec![overloaded(503)], 2, retried()),
        simple_fault("529", vec![overloaded(529)], 2, retried()),
        simple_fault("down", vec![overloaded(503); 3], 3, Failed("overloaded")),
        simple_fault("no-first-byte", vec![ScriptedResponse::silence()], 2, Replied(Some("timeout"))),
        simple_fault("stall", vec![d.truncated(1).stall()], 2, Replied(Some("timeout"))),
        simple_fault("cut", vec![d.truncated(1).cut()], 2, Replied(Some("network"))),
        simple_fault("no-end-mark", vec![d.truncated(2)], 2, damaged()),
        simple_fault("garbage", vec![d.then_bytes(b"data: {\"type\": \"message_start\", {{{\n\n")], 2, damaged()),
        simple_fault("no-text", vec![d.then_bytes(b"data: \xff\xfe\n\n\n")], 2, damaged()),
        simple_fault("unknown-event", vec![d.with_unknown_event()], 1, Replied(None)),
        simple_fault("error-event", vec![d.error_in_stream()], 2, retried()),
        simple_fault("arguments-that-are-no-json", vec![d.call("read_output", "{\"call\": ")], 2, Replied(None)),
        simple_fault("unknown-tool", vec![d.call("launch_rockets", "{}")], 2, Replied(None)),
        simple_fault("empty-reply", vec![d.empty()], 2, Replied(Some("empty_reply"))),
        simple_fault("empty-replies", vec![d.empty(), d.empty()], 2, Failed("empty_reply")),
        simple_fault("a-line-without-an-end", vec![d.then_bytes(&vec![b'x'; 1 << 20])], 2, damaged()),
        simple_fault(
            "page-of-a-proxy",
            vec![ScriptedResponse::plain(502, "text/html", b"<html>Bad gateway".to_vec())],
            2,
            retried(),
        ),
        simple_fault(
            "page-in-place-of-a-stream",
            vec![ScriptedResponse::plain(200, "text/html", b"<html>Please log in".to_vec())],
            1,
            Failed("invalid_request"),
        ),
        simple_fault("error-in-place-of-a-stream", vec![d.error_with_ok_status()], 2, retried()),
        simple_fault(
            "arguments-of-2-megabytes",
            vec![d.call("launch_rockets", &format!("{{\"at\": \"{}\"}}", "noon ".repeat(400_000)))],
            2,
            Replied(None),
        ),
        simple_fault("drip", vec![d.text(GOOD_REPLY).byte_by_byte()], 1, Replied(None)),
    ]
}

async fn start_service(yaml: String) -> TestService {
    let env = vec![
        // One user has all runs at the same time.
        ("K8SOPS_MAX_RUNS_PER_USER", "1000".to_owned()),
        ("K8SOPS_MAX_STREAMS_PER_USER", "1000".to_owned()),
        ("MAX_SESSIONS", "1000".into()),
        // All faults of all providers are tested at the same time.
        ("K8SOPS_MAX_RUNS", "1000".into()),
        ("K8SOPS_MAX_ATTEMPTS", "3".into()),
        ("LLM_PROVIDER", "anthropic".into()),
        ("ANTHROPIC_API_KEY", "none".into()),
    ];
    TestService::start(ServiceSetup { env, yaml: Some(yaml), ..ServiceSetup::default() }).await
}

async fn session_with(service: &TestService, provider: &str, model: &str) -> String {
    let session = service.post("/v1/sessions", json!({"provider": provider, "model": model})).await;
    format!("/v1/sessions/{}", session["session_id"].as_str().unwrap())
}

fn frames_of_type<'a>(frames: &'a [Value], kind: &str) -> Vec<&'a Value> {
    frames.iter().filter(|frame| frame["type"] == kind).collect()
}

/// Asserts that the text that a client shows at the end of the stream is the logged message.
fn assert_shown(frames: &[Value], message: &Value) {
    let of_message: Vec<Value> = frames.iter().filter(|f| f["message_id"] == message["message_id"]).cloned().collect();
    assert_eq!(shown_text(&of_message), message["content"].as_str().unwrap());
}

async fn check_fault(service: &TestService, providers: &FakeProviders, dialect: ProviderApi, fault: ProviderFault) {
    let ProviderFault { name, answers, history, expect, requests } = fault;
    let what = format!("{name} over {}", dialect.protocol());
    // Short timeouts are used only for faults without data, because a busy machine delays the others.
    let silent = matches!(name, "no-first-byte" | "stall");
    let provider = if silent { format!("hasty-{}", dialect.protocol()) } else { dialect.provider_name() };
    let session = session_with(service, &provider, name).await;
    if history {
        providers.script(dialect, name, [dialect.text(&"A long story. ".repeat(100))]);
        service.turn(&session, "tell me all").await;
    }
    let before = providers.received(dialect, name).len();
    providers.script(dialect, name, answers);
    let frames = service.turn(&session, "how are the pods?").await;
    assert_eq!(providers.received(dialect, name).len() - before, requests, "requests of {what}: {frames:#?}");
    let warnings: Vec<_> =
        frames_of_type(&frames, "warning").into_iter().map(|w| w["code"].as_str().unwrap()).collect();
    let last = frames.last().unwrap();
    let replies = frames_of_type(&frames, "assistant_message");
    match expect {
        Replied(warning) => {
            assert_eq!(last["outcome"], "completed", "{what}: {frames:#?}");
            assert_eq!(warnings, warning.into_iter().collect::<Vec<_>>(), "{what}: {frames:#?}");
            let reply = replies.last().unwrap();
            assert_eq!(reply["content"], GOOD_REPLY, "{what}");
            assert_shown(&frames, reply);
            let calls = frames_of_type(&frames, "tool_end");
            assert_eq!(replies.len(), 1 + calls.len(), "a reply is logged once: {what}");
            assert!(calls.iter().all(|call| call["status"] == "error"), "{what}");
            assert_eq!(frames_of_type(&frames, "tool_start").len(), 0, "{what}");
        }
        Failed(code) => {
            assert_eq!((&last["type"], &last["code"]), (&json!("run_failed"), &json!(code)), "{what}: {frames:#?}");
            let empty = usize::from(code == "empty_reply");
            assert_eq!(replies.len(), empty, "{what}");
            assert!(last["message"].as_str().unwrap().len() > 30, "{what}: {last}");
            assert!(!last.to_string().contains("test-key-of-no-use"), "{what}: {last}");
        }
    }
    for warning in frames_of_type(&frames, "warning").into_iter().filter(|w| w["code"] != "context_too_long") {
        let seconds = warning["wait_seconds"].as_f64().unwrap_or_else(|| panic!("{what}: {warning}"));
        let at_least = if name == "429-with-a-time" { 1.0 } else { 0.4 };
        assert!((at_least..10.0).contains(&seconds), "{what}: {warning}");
    }
    // The session stays usable.
    let frames = service.turn(&session, "and now?").await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed", "after {what}: {frames:#?}");
    let log = service.log(&session).await;
    assert_gapless(&log, 1);
    let ends = frame_types(&log).into_iter().filter(|kind| matches!(*kind, "run_finished" | "run_failed")).count();
    assert_eq!(ends, frame_types(&log).into_iter().filter(|kind| *kind == "run_started").count(), "{what}");
    let asked = providers.received(dialect, name).pop().unwrap();
    assert!(asked.body.to_string().contains("and now?"), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_faults_end_in_reply_or_clear_failure() {
    let providers = FakeProviders::start().await;
    let hasty = ProviderApi::ALL.map(|d| providers.provider_yaml(&format!("hasty-{}", d.protocol()), d, "3s"));
    let service = start_service(providers.settings_yaml() + &hasty.concat()).await;
    let cases = ProviderApi::ALL.into_iter().flat_map(|d| list_faults(d).into_iter().map(move |fault| (d, fault)));
    join_all(cases.map(|(dialect, fault)| check_fault(&service, &providers, dialect, fault))).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_and_slow_providers_are_distinguished() {
    // A server without TLS, a closed port, and a host name that does not resolve.
    let plain = FakeProviders::start().await;
    let closed = k8sops_testing::testbed::free_port();
    let places = [
        ("tls", plain.url.replace("http://", "https://")),
        ("refused", format!("http://127.0.0.1:{closed}")),
        ("dns", "http://no-such-host.invalid".to_owned()),
    ];
    let mut yaml = "providers:\n".to_owned();
    for (name, url) in &places {
        for dialect in ProviderApi::ALL {
            let protocol = dialect.protocol();
            yaml += &format!(
                "  {name}-{protocol}:\n    protocol: {protocol}\n    base_url: {url}\n    api_key: test-key-of-no-use\n    connect_timeout: 2s\n"
            );
        }
    }
    let service = start_service(yaml).await;
    let cases = places.iter().flat_map(|(name, _)| ProviderApi::ALL.map(|d| format!("{name}-{}", d.protocol())));
    join_all(cases.map(async |provider| {
        let session = session_with(&service, &provider, "any").await;
        let frames = service.turn(&session, "hello?").await;
        let last = frames.last().unwrap();
        assert_eq!(
            (&last["type"], &last["code"]),
            (&json!("run_failed"), &json!("network")),
            "{provider}: {frames:#?}"
        );
        let message = last["message"].as_str().unwrap();
        assert!(message.contains("base URL") || message.contains("certificates"), "{provider}: {message}");
        assert_eq!(frames_of_type(&frames, "warning").len(), 2, "{provider}: {frames:#?}");
    }))
    .await;
    service.stop().await;
}
