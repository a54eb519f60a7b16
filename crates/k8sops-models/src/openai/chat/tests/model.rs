use super::*;

#[tokio::test]
async fn reply_over_http_sends_key_in_one_header() {
    let (body, reply) = full_reply();
    let (seen, server) = ask_once(ScriptedResponse::stream(&[&body[..100], &body[100..]])).await;
    assert_eq!(seen.end, Ok(reply));
    let received = server.received();
    assert!(received[0].head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", received[0].head);
    assert_eq!(received[0].head.matches(test_support::KEY).count(), 1);
    assert!(received[0].head.contains(&format!("authorization: Bearer {}\r\n", test_support::KEY)));
    assert_eq!(received[0].body["stream_options"], json!({"include_usage": true}));
}

#[tokio::test]
async fn connection_is_reused() {
    let (body, reply) = full_reply();
    let server = ScriptedProvider::start((0..3).map(|_| ScriptedResponse::stream(&[&body]))).await;
    let model = model_at(&server);
    for _ in 0..3 {
        let stream = model.stream(chat_request(vec![user_message("hi")])).await.unwrap();
        assert_eq!(collect_reply(stream).await.end.as_ref(), Ok(&reply));
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn mapped_error_contains_no_key() {
    let echo = format!("{{\"error\":{{\"message\":\"bad: Bearer {}\"}}}}", test_support::KEY);
    for (status, headers, code) in [
        (401, "", "auth"),
        (404, "", "model_not_found"),
        (400, "", "invalid_request"),
        (413, "", "context_too_long"),
        (302, "location: http://elsewhere.example/\r\n", "invalid_request"),
        (429, "retry-after: 7\r\n", "rate_limited"),
        (503, "", "overloaded"),
        (503, "retry-after: 2\r\n", "rate_limited"),
        (200, "content-type: application/json\r\n", "overloaded"),
    ] {
        let (seen, _server) = ask_once(ScriptedResponse::plain(status, headers, &echo)).await;
        let error = seen.end.unwrap_err();
        assert_eq!(error.code(), code, "{status}");
        assert!(!format!("{error} {error:?}").contains(test_support::KEY), "{error}");
        if error.code() == "rate_limited" {
            assert_eq!(error.details.retry_after, Some(Duration::from_secs(if status == 429 { 7 } else { 2 })));
        }
    }
    let (seen, _server) =
        ask_once(ScriptedResponse::plain(200, "content-type: text/html\r\n", "<html>welcome</html>")).await;
    assert!(matches!(seen.end, Err(ModelError { kind: ModelErrorKind::InvalidRequest, .. })), "{seen:?}");
}

#[tokio::test]
async fn unreachable_server_error_names_host_and_remedy() {
    // Bind and release a port, so that no server listens on it.
    let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let model =
        OpenAiModel::new(&test_support::provider_config(ProviderProtocol::Openai, &format!("http://{host}/v1")));
    let error = model.stream(chat_request(vec![user_message("hi")])).await.err().unwrap();
    let ModelError { kind: ModelErrorKind::Network, message, .. } = error else { panic!("{error:?}") };
    assert!(message.contains(&host) && message.contains("refused") && message.contains("Check"), "{message}");

    let nowhere =
        OpenAiModel::new(&test_support::provider_config(ProviderProtocol::Openai, "http://nowhere.invalid/v1"));
    let error = nowhere.stream(chat_request(vec![user_message("hi")])).await.err().unwrap();
    assert!(
        matches!(&error, ModelError { kind: ModelErrorKind::Network, message: m, .. } if m.contains("nowhere.invalid")),
        "{error:?}"
    );
    let unparsed = OpenAiModel::new(&test_support::provider_config(ProviderProtocol::Openai, "not a url"));
    let error = unparsed.stream(chat_request(vec![user_message("hi")])).await.err().unwrap();
    assert!(
        matches!(&error, ModelError { kind: ModelErrorKind::InvalidRequest, message: m, .. } if m.contains("base URL")),
        "{error:?}"
    );
}

#[tokio::test]
async fn silent_server_times_out() {
    let begun = format!("data: {}\n\n", delta_chunk(json!({"content": "half a"})));
    let server = ScriptedProvider::start([ScriptedResponse::stall(&[&begun]), ScriptedResponse::silence()]).await;
    let mut config = test_support::provider_config(ProviderProtocol::Openai, &server.url);
    config.connect_timeout = Duration::from_millis(100);
    config.read_timeout = Duration::from_millis(200);
    let model = OpenAiModel::new(&config);
    let seen = collect_reply(model.stream(chat_request(vec![user_message("hi")])).await.unwrap()).await;
    assert_eq!(seen.text, "half a");
    assert!(
        matches!(&seen.end, Err(ModelError { kind: ModelErrorKind::Timeout, message: m, .. }) if m.contains("0.2 s")),
        "{seen:?}"
    );
    let error = model.stream(chat_request(vec![user_message("hi")])).await.err().unwrap();
    assert!(matches!(error, ModelError { kind: ModelErrorKind::Timeout, .. }), "{error:?}");
}

#[tokio::test]
async fn dropped_stream_closes_connection() {
    let begun = format!("data: {}\n\n", delta_chunk(json!({"content": "half a"})));
    let server = ScriptedProvider::start([ScriptedResponse::stall(&[&begun])]).await;
    let stream = model_at(&server).stream(chat_request(vec![user_message("hi")])).await.unwrap();
    drop(stream);
    server.hung_up().await;
}

#[tokio::test]
async fn check_finds_model_or_lists_available_ones() {
    let list = r#"{"object":"list","data":[{"id":"test-model"},{"id":"llama:latest"}]}"#;
    let none = || ScriptedResponse::plain(404, "", "");
    let server = ScriptedProvider::start([
        ScriptedResponse::plain(200, "", list),
        ScriptedResponse::plain(200, "", list),
        ScriptedResponse::plain(200, "", list),
        none(),
        ScriptedResponse::plain(200, "", list),
        ScriptedResponse::plain(200, "", r#"{"id":"org/alias"}"#),
        none(),
        ScriptedResponse::plain(400, "", r#"{"error":"messages is required"}"#),
        ScriptedResponse::plain(401, "", "{}"),
    ])
    .await;
    let model = model_at(&server);
    assert_eq!(model.check("test-model").await, Ok(()));
    assert_eq!(model.check("llama").await, Ok(()));
    let error = model.check("other").await.unwrap_err();
    assert!(
        matches!(&error, ModelError { kind: ModelErrorKind::InvalidRequest, message: m, .. } if m.contains("test-model, llama:latest")),
        "{error:?}"
    );
    assert_eq!(model.check("org/alias").await, Ok(()));
    assert_eq!(model.check("a server without a list").await, Ok(()));
    assert_eq!(model.check("x").await.unwrap_err().code(), "auth");
    let received = server.received();
    assert!(received[0].head.starts_with("GET /v1/models HTTP/1.1\r\n"));
    assert!(received[5].head.starts_with("GET /v1/models/org%2Falias HTTP/1.1\r\n"), "{}", received[5].head);
    assert!(received[7].head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", received[7].head);
    assert_eq!(received[7].body.get("messages"), None, "the probe uses no tokens");
}

#[tokio::test]
async fn check_of_wrong_base_url_names_status_and_version() {
    for (list, chat) in [(404, 404), (501, 501), (404, 405), (200, 404)] {
        let server = ScriptedProvider::start([
            ScriptedResponse::plain(list, "", "{}"),
            ScriptedResponse::plain(chat, "", "<html>"),
        ])
        .await;
        let model = OpenAiModel::new(&test_support::provider_config(
            ProviderProtocol::Openai,
            &format!("{}/v1/v1", server.url),
        ));
        let error = model.check("test-model").await.unwrap_err();
        let ModelError { kind: ModelErrorKind::InvalidRequest, message, .. } = &error else {
            panic!("{list} {chat}: {error:?}")
        };
        let says = [&format!("({chat})"), "/v1/v1/chat/completions", "missing or doubled /v1"];
        assert!(says.iter().all(|word| message.contains(word)), "{message}");
    }
    let server =
        ScriptedProvider::start([ScriptedResponse::plain(404, "", ""), ScriptedResponse::plain(401, "", "{}")]).await;
    assert_eq!(model_at(&server).check("x").await.unwrap_err().code(), "auth");
}

#[tokio::test]
async fn stream_is_recognized_by_content_not_content_type() {
    let body = sse_body(&[delta_chunk(json!({"content": "ok"})), finish_chunk("stop")]);
    for kind in ["application/json", "text/html; charset=utf-8", "text/plain", "application/octet-stream"] {
        let (seen, _) = ask_once(ScriptedResponse::plain(200, &format!("content-type: {kind}\r\n"), &body)).await;
        assert_eq!(seen.end.unwrap().content, "ok", "{kind}");
    }
    for (kind, body, code, says) in [
        (
            "application/json",
            r#"{"error": {"message": "no room", "type": "overloaded_error"}}"#,
            "overloaded",
            "no room",
        ),
        (
            "application/json",
            r#"{"object": "error", "message": "worker died", "code": 500}"#,
            "overloaded",
            "worker died",
        ),
        ("application/json", r#"[{"error": {"message": "slow down", "code": 429}}]"#, "rate_limited", "slow down"),
        ("application/json", r#"{"hello": "world"}"#, "invalid_request", "stream of events"),
        ("text/html", "<html>Please log in</html>", "invalid_request", "stream of events"),
        ("text/html", "", "invalid_request", "stream of events"),
    ] {
        let (seen, _) = ask_once(ScriptedResponse::plain(200, &format!("content-type: {kind}\r\n"), body)).await;
        let error = seen.end.unwrap_err();
        assert_eq!(error.code(), code, "{body}: {error}");
        assert!(error.to_string().contains(says), "{body}: {error}");
    }
    let (seen, _) = ask_once(ScriptedResponse::plain(
        200,
        "content-type: text/event-stream\r\ncontent-encoding: gzip\r\n",
        "\u{1f}",
    ))
    .await;
    let error = seen.end.unwrap_err();
    assert!(
        matches!(&error, ModelError { kind: ModelErrorKind::InvalidRequest, message: m, .. } if m.contains("gzip")),
        "{error:?}"
    );
}

#[tokio::test]
async fn unknown_parameters_are_dropped_or_renamed() {
    let refused = |words: &str| ScriptedResponse::plain(400, "", &json!({"error": {"message": words}}).to_string());
    let good =
        || ScriptedResponse::stream(&[&sse_body(&[delta_chunk(json!({"content": "ok"})), finish_chunk("stop")])]);
    let server = ScriptedProvider::start([
        refused("Unknown field: stream_options"),
        refused("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."),
        refused("tool_choice is not supported"),
        refused("This model does not support tools"),
        good(),
        good(),
    ])
    .await;
    let model = model_at(&server);
    for _ in 0..2 {
        let request = ChatRequest {
            max_tokens: Some(9),
            tool_choice: ToolChoice::None,
            ..chat_request(vec![user_message("hi")])
        };
        let reply = collect_reply(model.stream(request).await.unwrap()).await.end.unwrap();
        assert_eq!(reply.notices.iter().map(|notice| notice.code).collect::<Vec<_>>(), ["tools_unsupported"]);
    }
    let last = server.received().pop().unwrap().body;
    assert_eq!(server.received().len(), 6, "rejected parameters are not sent again");
    for field in ["stream_options", "max_tokens", "tool_choice", "tools"] {
        assert_eq!(last.get(field), None, "{field}");
    }
    assert_eq!(last["max_completion_tokens"], 9);
}

#[tokio::test]
async fn rejected_tool_is_left_out_until_it_changes() {
    let refused = json!({"error": {"message": "Invalid schema for function 'odd_tool': array schema missing items."}});
    let refused = ScriptedResponse::plain(400, "", &refused.to_string());
    let good =
        || ScriptedResponse::stream(&[&sse_body(&[delta_chunk(json!({"content": "ok"})), finish_chunk("stop")])]);
    let server = ScriptedProvider::start([refused, good(), good(), good()]).await;
    let model = model_at(&server);
    let request = |description: &str| {
        let mut request = chat_request(vec![user_message("hi")]);
        let mut odd = request.tools[0].clone();
        odd.name = "odd_tool".to_owned();
        odd.description = description.to_owned();
        request.tools = [request.tools[0].clone(), odd].into();
        request
    };
    let mut notices = Vec::new();
    for description in ["old", "old", "new"] {
        let reply = collect_reply(model.stream(request(description)).await.unwrap()).await.end.unwrap();
        notices.push(reply.notices.iter().map(|notice| notice.code).collect::<Vec<_>>());
    }
    assert_eq!(notices, [vec!["tools_left_out"], vec!["tools_left_out"], vec![]]);
    let sent =
        server.received().iter().map(|request| request.body["tools"].as_array().unwrap().len()).collect::<Vec<_>>();
    assert_eq!(sent, [2, 1, 1, 2]);
}

#[tokio::test]
async fn end_mark_suffices_for_a_server_that_gives_no_reasons() {
    let unmarked = || {
        let chunk = delta_chunk(json!({"content": "All well <tool"}));
        ScriptedResponse::stream(&[&format!("data: {chunk}\n\ndata: [DONE]\n\n")])
    };
    let cut = || ScriptedResponse::stream(&[&format!("data: {}\n\n", delta_chunk(json!({"content": "All"})))]);
    let marked =
        || ScriptedResponse::stream(&[&sse_body(&[delta_chunk(json!({"content": "ok"})), finish_chunk("stop")])]);
    let server =
        ScriptedProvider::start([unmarked(), unmarked(), unmarked(), cut(), marked(), unmarked(), unmarked()]).await;
    let model = model_at(&server);
    let mut ends = Vec::new();
    for _ in 0..7 {
        let stream = model.stream(chat_request(vec![user_message("hi")])).await.unwrap();
        let end = collect_reply(stream).await.end;
        ends.push(end.map(|reply| (reply.content, reply.notices.len())).map_err(|error| error.kind));
    }
    let complete = |notices| Ok(("All well <tool".to_owned(), notices));
    let broken = || Err(ModelErrorKind::MalformedStream);
    assert_eq!(ends[..3], [broken(), complete(1), complete(1)], "the second one in a row is what the server does");
    assert_eq!(ends[3..], [broken(), Ok(("ok".to_owned(), 1)), broken(), complete(1)], "a reason is expected again");
}
