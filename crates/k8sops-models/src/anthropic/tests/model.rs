use super::*;

#[tokio::test]
async fn reply_over_http_sends_protocol_headers() {
    let (body, reply) = full_reply();
    let (seen, server) = ask_once(ScriptedResponse::stream(&[&body[..100], &body[100..]])).await;
    assert_eq!(seen.end, Ok(reply));
    let received = server.received();
    let head = &received[0].head;
    assert!(head.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{head}");
    for header in [
        format!("x-api-key: {}\r\n", test_support::KEY),
        format!("authorization: Bearer {}\r\n", test_support::KEY),
        "anthropic-version: 2023-06-01\r\n".to_owned(),
    ] {
        assert!(head.contains(&header), "{head}");
    }
    assert_eq!(received[0].body["max_tokens"], DEFAULT_MAX_TOKENS);
}

#[test]
fn anthropic_host_gets_key_in_one_header() {
    let model =
        AnthropicModel::new(&test_support::provider_config(ProviderProtocol::Anthropic, "https://api.anthropic.com"));
    let headers = model.protocol_headers().unwrap();
    assert_eq!(headers["x-api-key"], test_support::KEY);
    assert!(headers["x-api-key"].is_sensitive());
    assert!(!headers.contains_key("authorization"));
}

#[tokio::test]
async fn max_tokens_comes_from_request_then_catalog() {
    let (body, _) = full_reply();
    let server = ScriptedProvider::start((0..2).map(|_| ScriptedResponse::stream(&[&body]))).await;
    let mut config = test_support::provider_config(ProviderProtocol::Anthropic, &server.url);
    config.models[0].max_output_tokens = Some(64_000);
    let model = AnthropicModel::new(&config);
    for limit in [None, Some(5)] {
        let request = ChatRequest { max_tokens: limit, ..chat_request(vec![user_message("hi")]) };
        collect_reply(model.stream(request).await.unwrap()).await.end.unwrap();
    }
    let sent: Vec<_> = server.received().iter().map(|r| r.body["max_tokens"].clone()).collect();
    assert_eq!(sent, [64_000, 5]);
}

#[tokio::test]
async fn error_statuses_are_mapped() {
    let body = r#"{"type":"error","error":{"type":"x","message":"no"}}"#;
    for (status, code) in [(401, "auth"), (404, "model_not_found"), (429, "rate_limited"), (529, "overloaded")] {
        let (seen, _server) = ask_once(ScriptedResponse::plain(status, "", body)).await;
        assert_eq!(seen.end.unwrap_err().code(), code, "{status}");
    }
}

#[tokio::test]
async fn base_url_may_include_api_version() {
    let (body, _) = full_reply();
    let server = ScriptedProvider::start([ScriptedResponse::stream(&[&body])]).await;
    let model = AnthropicModel::new(&test_support::provider_config(
        ProviderProtocol::Anthropic,
        &format!("{}/proxy/v1/", server.url),
    ));
    collect_reply(model.stream(chat_request(vec![user_message("hi")])).await.unwrap()).await.end.unwrap();
    let received = server.received();
    assert!(received[0].head.starts_with("POST /proxy/v1/messages HTTP/1.1\r\n"), "{}", received[0].head);
}

#[tokio::test]
async fn check_finds_model_or_lists_available_ones() {
    let list = r#"{"data":[{"type":"model","id":"claude-x"}],"has_more":false}"#;
    let server = ScriptedProvider::start([
        ScriptedResponse::plain(200, "", list),
        ScriptedResponse::plain(200, "", list),
        ScriptedResponse::plain(404, "", "{}"),
    ])
    .await;
    let model = model_at(&server);
    assert_eq!(model.check("claude-x").await, Ok(()));
    let error = model.check("claude-y").await.unwrap_err();
    assert!(
        matches!(&error, ModelError { kind: ModelErrorKind::InvalidRequest, message: m, .. } if m.contains("claude-y") && m.contains("claude-x")),
        "{error:?}"
    );
    let received = server.received();
    assert!(received[0].head.starts_with("GET /v1/models HTTP/1.1\r\n"), "{}", received[0].head);
}

#[tokio::test]
async fn rejected_parameters_are_dropped_and_request_resent() {
    let refusal = json!({"type": "error", "error": {"type": "invalid_request_error", "message": "`temperature` is not supported"}});
    let body = sse_body(&end_events("end_turn"));
    let server = ScriptedProvider::start([
        ScriptedResponse::plain(400, "", &refusal.to_string()),
        ScriptedResponse::stream(&[&body]),
        ScriptedResponse::stream(&[&body]),
    ])
    .await;
    let model = AnthropicModel::new(&test_support::provider_config(ProviderProtocol::Anthropic, &server.url));
    for _ in 0..2 {
        let request = ChatRequest { temperature: Some(0.3), ..chat_request(vec![user_message("hi")]) };
        let reply = collect_reply(model.stream(request).await.unwrap()).await.end.unwrap();
        assert_eq!(reply.notices.iter().map(|notice| notice.code).collect::<Vec<_>>(), ["temperature_ignored"]);
    }
    let sent: Vec<_> = server.received().iter().map(|r| r.body.get("temperature").is_some()).collect();
    assert_eq!(sent, [true, false, false], "the parameter is not sent again");
}

#[tokio::test]
async fn always_thinking_model_gets_lowest_effort() {
    let refusal = "thinking.type: `disabled` is not supported by this model, whose thinking is always on";
    let refusal = json!({"type": "error", "error": {"type": "invalid_request_error", "message": refusal}});
    let body = sse_body(&end_events("end_turn"));
    let good = || ScriptedResponse::stream(&[&body]);
    let server =
        ScriptedProvider::start([ScriptedResponse::plain(400, "", &refusal.to_string()), good(), good(), good()]).await;
    let model = AnthropicModel::new(&test_support::provider_config(ProviderProtocol::Anthropic, &server.url));
    let ask = async |reasoning| {
        let request = ChatRequest { reasoning: Some(reasoning), ..chat_request(vec![user_message("hi")]) };
        let reply = collect_reply(model.stream(request).await.unwrap()).await.end.unwrap();
        reply.notices.iter().map(|notice| notice.code).collect::<Vec<_>>()
    };
    assert_eq!(ask(ReasoningEffort::Off).await, ["always_thinks"]);
    assert_eq!(ask(ReasoningEffort::Off).await, ["always_thinks"]);
    assert_eq!(ask(ReasoningEffort::High).await, Vec::<&str>::new(), "other requests are not affected");
    let sent: Vec<_> = server.received().iter().map(|r| r.body["output_config"]["effort"].clone()).collect();
    assert_eq!(sent, [json!(null), json!("low"), json!("low"), json!("high")]);
}

#[tokio::test]
async fn no_message_has_empty_content() {
    let refusal =
        json!({"type": "error", "error": {"type": "invalid_request_error", "message": "Invalid `signature`"}});
    let body = sse_body(&end_events("end_turn"));
    let server = ScriptedProvider::start([
        ScriptedResponse::plain(400, "", &refusal.to_string()),
        ScriptedResponse::stream(&[&body]),
    ])
    .await;
    let model = AnthropicModel::new(&test_support::provider_config(ProviderProtocol::Anthropic, &server.url));
    let (_, signed) = full_reply();
    let results = [tool_message("c0", ToolStatus::Ok, "a"), tool_message("c1", ToolStatus::Ok, "b")];
    let first = [vec![user_message("hi"), message_from_reply(signed)], results.to_vec()].concat();
    let asked = chat_request(
        [first, vec![user_message("and?"), message_from_reply(thought_alone()), user_message("well?")]].concat(),
    );
    collect_reply(model.stream(asked).await.unwrap()).await.end.unwrap();
    for received in server.received() {
        let messages = received.body["messages"].as_array().unwrap().clone();
        assert!(messages.iter().all(|m| !m["content"].as_array().unwrap().is_empty()), "{messages:?}");
    }
}

#[tokio::test]
async fn rejected_signatures_are_dropped_and_request_resent() {
    let refusal = "messages.1.content.0: `thinking` blocks in the latest assistant message cannot be modified.";
    let refusal = json!({"type": "error", "error": {"type": "invalid_request_error", "message": refusal}});
    let body = sse_body(&end_events("end_turn"));
    let server = ScriptedProvider::start([
        ScriptedResponse::plain(400, "", &refusal.to_string()),
        ScriptedResponse::stream(&[&body]),
    ])
    .await;
    let model = AnthropicModel::new(&test_support::provider_config(ProviderProtocol::Anthropic, &server.url));
    let (_, reply) = full_reply();
    let results = [tool_message("c0", ToolStatus::Ok, "a"), tool_message("c1", ToolStatus::Ok, "b")];
    let request = chat_request([vec![user_message("hi"), message_from_reply(reply)], results.to_vec()].concat());
    let reply = collect_reply(model.stream(request).await.unwrap()).await.end.unwrap();
    assert_eq!(reply.notices, []);
    let kinds = |n: usize| -> Vec<Value> {
        let content = server.received()[n].body["messages"][1]["content"].clone();
        content.as_array().unwrap().iter().map(|block| block["type"].clone()).collect()
    };
    assert_eq!(kinds(0), ["thinking", "text", "tool_use", "tool_use"]);
    assert_eq!(kinds(1), ["text", "tool_use", "tool_use"]);
}

/// Returns a model of a dialect that loads tools.
fn loading_model(server: &ScriptedProvider, features: &[ModelFeature]) -> AnthropicModel {
    let mut config = test_support::provider_config(ProviderProtocol::Anthropic, &server.url);
    config.models[0].features = features.iter().copied().collect();
    let dialect =
        Dialect { protocol: DialectProtocol::Messages, deferred_tools: DeferredTools::AllModels, ..Dialect::default() };
    config.dialect =
        DialectChoice { name: Some("d".into()), known: Arc::new([("d".to_owned(), dialect)].into_iter().collect()) };
    AnthropicModel::new(&config)
}

/// Returns a request in which a search found a tool.
fn searching_request() -> ChatRequest {
    let mut request = chat_request(vec![
        user_message("hi"),
        assistant_message("", vec![tool_call("s1", "find_tools", json!({"query": "nodes"}))]),
        tool_message("s1", ToolStatus::Ok, "### nodes_top"),
    ]);
    request.tools = ["find_tools", "nodes_top"].map(tool_spec).into();
    request.found_tools = found_tools(&[("s1", "nodes_top")]);
    request
}

/// Sends the request twice to a model that loads tools. Returns the bodies that it got.
async fn ask_with_found_tools(features: &[ModelFeature], responses: Vec<ScriptedResponse>) -> Vec<Value> {
    let server = ScriptedProvider::start(responses).await;
    let model = loading_model(&server, features);
    for _ in 0..2 {
        collect_reply(model.stream(searching_request()).await.unwrap()).await.end.unwrap();
    }
    server.received().into_iter().map(|received| received.body).collect()
}

#[tokio::test]
async fn refused_references_become_text_for_good() {
    let (reply, _) = full_reply();
    let texts = [
        "tools.1.custom.defer_loading: Extra inputs are not permitted",
        "messages.2.content.0.tool_result.content.0: Input tag 'tool_reference' found using 'type' does not match any of the expected tags: 'text', 'image'",
        "Tool reference 'nodes_top' has no corresponding tool definition",
        "This model does not support deferred tools",
        "This model does not support tool search",
        // They name nothing that was sent.
        "messages.2.content.0.tool_result.content.0.type: Input should be 'text' or 'image'",
        "Bad request",
    ];
    for text in texts {
        let error = json!({"type": "error", "error": {"type": "invalid_request_error", "message": text}}).to_string();
        let responses = vec![
            ScriptedResponse::plain(400, "", &error),
            ScriptedResponse::stream(&[&reply]),
            ScriptedResponse::stream(&[&reply]),
        ];
        let bodies = ask_with_found_tools(&[], responses).await;
        let loads: Vec<bool> = bodies.iter().map(|body| body.to_string().contains("defer_loading")).collect();
        assert_eq!(loads, [true, false, false], "{text}");
        assert_eq!(bodies[1]["tools"][1]["name"], "nodes_top", "it is in the list as before");
        assert!(bodies[1]["messages"].to_string().contains("### nodes_top"), "{}", bodies[1]);
        assert_eq!(bodies[1], bodies[2]);
    }
}

#[tokio::test]
async fn model_without_the_feature_gets_text() {
    let (reply, _) = full_reply();
    let loads = async |features: &[ModelFeature]| {
        let responses = (0..2).map(|_| ScriptedResponse::stream(&[&reply])).collect();
        ask_with_found_tools(features, responses).await[0].to_string().contains("defer_loading")
    };
    assert!(!loads(&[ModelFeature::Tools]).await);
    assert!(loads(&[ModelFeature::Tools, ModelFeature::DeferredTools]).await);
    assert!(loads(&[]).await, "the dialect assumes it of models that are not known");
}

#[tokio::test]
async fn rejection_for_another_reason_is_not_blamed_on_loading() {
    let (reply, _) = full_reply();
    let error = r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages: odd"}}"#;
    let rejection = || ScriptedResponse::plain(400, "", error);
    let server = ScriptedProvider::start([rejection(), rejection(), ScriptedResponse::stream(&[&reply])]).await;
    let model = loading_model(&server, &[]);
    let error = model.stream(searching_request()).await.err().expect("it is rejected in both forms");
    assert!(error.is_rejected_request());
    collect_reply(model.stream(searching_request()).await.unwrap()).await.end.unwrap();
    let received = server.received();
    let loads: Vec<bool> = received.iter().map(|request| request.body.to_string().contains("defer_loading")).collect();
    assert_eq!(loads, [true, false, true]);
}
