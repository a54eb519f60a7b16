use super::*;

#[tokio::test]
async fn reply_is_independent_of_chunk_boundaries() {
    let (body, reply) = full_reply();
    for size in (1..40).chain([body.len()]) {
        let seen = assemble_sse(
            ChatCompletionsAssembler::new(test_support::test_call(), Vec::new(), Vec::new()),
            body.as_bytes(),
            size,
        )
        .await;
        assert_eq!(seen.end.as_ref(), Ok(&reply), "{size}");
    }
}

#[test]
fn tool_calls_are_separated_without_ids_or_indices() {
    let two = vec![requested_call("a", json!({"x": 1})), requested_call("b", json!({"y": 2}))];
    let variants = [
        // Ids without indices.
        vec![
            call_chunk(json!([{"id": "1", "function": {"name": "a", "arguments": "{\"x\":"}}])),
            call_chunk(json!([{"id": "2", "function": {"name": "b", "arguments": "{\"y\":"}}])),
            call_chunk(
                json!([{"id": "1", "function": {"arguments": "1}"}}, {"id": "2", "function": {"arguments": "2}"}}]),
            ),
        ],
        // Neither ids nor indices: a piece continues the last call, and a name starts one.
        vec![
            call_chunk(json!([{"function": {"name": "a", "arguments": "{\"x\":"}}])),
            call_chunk(json!([{"function": {"arguments": "1}"}}])),
            call_chunk(json!([{"function": {"name": "b", "arguments": "{\"y\":2}"}}])),
        ],
        // The index 0 for all calls.
        vec![
            call_chunk(json!([{"index": 0, "id": "1", "function": {"name": "a", "arguments": "{\"x\":1}"}}])),
            call_chunk(json!([{"index": 0, "id": "2", "function": {"name": "b", "arguments": "{\"y\":2}"}}])),
        ],
        // Name and id in every piece.
        vec![
            call_chunk(json!([{"index": 0, "id": "1", "function": {"name": "a", "arguments": "{\"x\""}}])),
            call_chunk(json!([{"index": 0, "id": "1", "function": {"name": "a", "arguments": ":1}"}}])),
            call_chunk(json!([{"index": 1, "id": "2", "function": {"name": "b", "arguments": "{\"y\":2}"}}])),
        ],
        // The index 0 for all calls and no ids. The first call has its name in every piece, and an empty piece at its
        // end.
        vec![
            call_chunk(json!([{"index": 0, "function": {"name": "a", "arguments": "{\"x\":"}}])),
            call_chunk(json!([{"index": 0, "function": {"name": "a", "arguments": "1}"}}])),
            call_chunk(json!([{"index": 0, "function": {"name": "a", "arguments": ""}}])),
            call_chunk(json!([{"index": 0, "function": {"name": "b", "arguments": "{\"y\":"}}])),
            call_chunk(json!([{"index": 0, "function": {"arguments": "2}"}}])),
        ],
        // The same id for all calls and no indices.
        vec![
            call_chunk(json!([{"id": "1", "function": {"name": "a", "arguments": "{\"x\":1}"}}])),
            call_chunk(json!([{"id": "1", "function": {"name": "b", "arguments": "{\"y\":2}"}}])),
        ],
        // The same id for all calls with different indices, and ids and indices of other types.
        vec![
            call_chunk(json!([{"index": 0, "id": "1", "function": {"name": "a", "arguments": "{\"x\":1}"}}])),
            call_chunk(json!([{"index": 1, "id": "1", "function": {"name": "b", "arguments": "{\"y\":2}"}}])),
        ],
        vec![
            call_chunk(json!([{"index": -1, "id": 17, "function": {"name": "a", "arguments": "{\"x\":1}"}}])),
            call_chunk(json!([{"index": "0", "id": 18, "function": {"name": "b", "arguments": "{\"y\":2}"}}])),
        ],
        // Whole objects as arguments.
        vec![call_chunk(json!([
            {"index": 0, "function": {"name": "a", "arguments": {"x": 1}}},
            {"index": 7, "function": {"name": "b", "arguments": {"y": 2}}},
        ]))],
    ];
    for mut chunks in variants {
        chunks.push(finish_chunk("stop"));
        let reply = assemble(&chunks).unwrap();
        assert_eq!(reply.tool_calls, two, "{chunks:?}");
        assert_eq!(reply.stop_reason, StopReason::ToolUse);
    }
}

#[test]
fn sparse_chunks_still_make_a_reply() {
    let seen = assemble(&[
        json!({}),
        json!({"choices": null}),
        delta_chunk(json!({"content": null, "tool_calls": null})),
        delta_chunk(json!({"content": [{"type": "text", "text": "hi"}]})),
        json!({"choices": [{"finish_reason": "eos_token"}]}),
        json!({"choices": [], "usage": null, "timings": {"n": 1}}),
    ])
    .unwrap();
    assert_eq!(
        (seen.content.as_str(), seen.stop_reason, seen.usage),
        ("hi", StopReason::EndTurn, TokenUsage::default())
    );
}

#[test]
fn stop_reasons_are_mapped() {
    for (word, reason) in [
        ("stop", StopReason::EndTurn),
        ("length", StopReason::MaxTokens),
        ("content_filter", StopReason::Refusal),
        ("something_new", StopReason::Other),
    ] {
        assert_eq!(
            assemble(&[delta_chunk(json!({"content": "x"})), finish_chunk(word)]).unwrap().stop_reason,
            reason,
            "{word}"
        );
    }
    let refusal = assemble(&[delta_chunk(json!({"refusal": "I can't."})), finish_chunk("stop")]).unwrap();
    assert_eq!((refusal.content.as_str(), refusal.stop_reason), ("I can't.", StopReason::Refusal));
    // A call that is truncated in its arguments keeps the original text and cannot be taken for a complete one.
    let cut = assemble(&[
        call_chunk(json!([{"index": 0, "function": {"name": "a", "arguments": "{\"x\": \"1"}}])),
        finish_chunk("length"),
    ]);
    let cut = cut.unwrap();
    assert_eq!((cut.stop_reason, &cut.tool_calls[0].arguments), (StopReason::MaxTokens, &json!("{\"x\": \"1")));
}

#[test]
fn truncated_call_without_arguments_is_invalid() {
    let call = |index: u64, arguments: &str| {
        call_chunk(json!([{"index": index, "function": {"name": "a", "arguments": arguments}}]))
    };
    let arguments = |end: &str| -> Vec<_> {
        let reply = assemble(&[call(0, ""), call(1, ""), finish_chunk(end)]).unwrap();
        reply.tool_calls.into_iter().map(|call| call.arguments).collect()
    };
    assert_eq!(arguments("tool_calls"), [json!({}), json!({})]);
    // The first call is complete, because another one follows it.
    assert_eq!(arguments("length"), [json!({}), json!("")]);
    let whole = assemble(&[call(0, "{}"), finish_chunk("length")]).unwrap();
    assert_eq!(whole.tool_calls[0].arguments, json!({}));
}

#[tokio::test]
async fn truncated_stream_is_an_error() {
    let begun = format!("data: {}\n\n", delta_chunk(json!({"content": "half a"})));
    let (seen, _server) = ask_once(ScriptedResponse::stream(&[&begun])).await;
    assert!(matches!(seen.end, Err(ModelError { kind: ModelErrorKind::MalformedStream, .. })), "{seen:?}");
    assert_eq!(seen.text, "half a");
    let (seen, _server) = ask_once(ScriptedResponse::stream(&[&begun, "data: [DONE]\n\n"])).await;
    assert!(matches!(seen.end, Err(ModelError { kind: ModelErrorKind::MalformedStream, .. })), "{seen:?}");
    let (seen, _server) = ask_once(ScriptedResponse::cut(&[&begun])).await;
    assert!(
        matches!(&seen.end, Err(ModelError { kind: ModelErrorKind::Network, message: m, .. }) if m.contains("middle of the reply")),
        "{seen:?}"
    );
    let (seen, _server) = ask_once(ScriptedResponse::stream(&[&begun, "data: {\"choices\": [{\n\n"])).await;
    assert!(matches!(seen.end, Err(ModelError { kind: ModelErrorKind::MalformedStream, .. })), "{seen:?}");
    // The end mark may be missing if there is a finish reason.
    let end = format!("data: {}\n\n", finish_chunk("stop"));
    let (seen, _server) = ask_once(ScriptedResponse::stream(&[&begun, &end])).await;
    assert_eq!(seen.end.unwrap().content, "half a");
}

#[tokio::test]
async fn stream_errors_are_mapped() {
    let begun = format!("data: {}\n\n", delta_chunk(json!({"content": "half a"})));
    for (event, code) in [
        ("data: {\"error\":{\"message\":\"busy\",\"type\":\"overloaded_error\"}}\n\n", "overloaded"),
        (
            "data: {\"error\":{\"message\":\"no\",\"code\":400,\"type\":\"exceed_context_size_error\"}}\n\n",
            "context_too_long",
        ),
        (
            "data: {\"object\":\"error\",\"message\":\"bad\",\"type\":\"BadRequestError\",\"code\":400}\n\n",
            "invalid_request",
        ),
        ("event: error\ndata: {\"message\":\"slow down\",\"code\":429}\n\n", "rate_limited"),
    ] {
        let (seen, _server) = ask_once(ScriptedResponse::stream(&[&begun, event])).await;
        assert_eq!(seen.end.unwrap_err().code(), code, "{event}");
    }
}

#[tokio::test(start_paused = true)]
async fn keepalives_alone_time_out() {
    for sign in [": ping", "data: {\"choices\":[]}", "data: {\"choices\":[{\"delta\":{\"content\":\"\"}}]}"] {
        let start = tokio::time::Instant::now();
        let stream = test_support::slow_reply_stream(
            ChatCompletionsAssembler::new(test_support::test_call(), Vec::new(), Vec::new()),
            sign,
            0,
            sign,
        );
        let error = collect_reply(stream).await.end.unwrap_err();
        assert!(
            matches!(&error, ModelError { kind: ModelErrorKind::Timeout, message: m, .. } if m.contains("150 s")),
            "{error:?}"
        );
        assert!(error.is_retryable());
        assert_eq!(start.elapsed().as_secs(), 150, "{sign}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_tool_arguments_do_not_time_out() {
    let piece = "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\" \"}}]}}]}";
    let stream = test_support::slow_reply_stream(
        ChatCompletionsAssembler::new(test_support::test_call(), Vec::new(), Vec::new()),
        piece,
        60,
        "data: [DONE]",
    );
    let error = collect_reply(stream).await.end.unwrap_err();
    // The stream reached its end mark, but without a finish reason.
    assert!(matches!(error, ModelError { kind: ModelErrorKind::MalformedStream, .. }), "{error:?}");
}

#[test]
fn legacy_reply_forms_are_parsed() {
    let whole = assemble(&[
        json!({"choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]}),
    ]);
    assert_eq!(whole.unwrap().content, "hello");
    let single = assemble(&[
        delta_chunk(json!({"function_call": {"name": "logs", "arguments": ""}})),
        delta_chunk(json!({"function_call": {"arguments": "{\"a\":1}"}})),
        finish_chunk("function_call"),
    ]);
    assert_eq!(single.unwrap().tool_calls, [requested_call("logs", json!({"a": 1}))]);
    let both =
        assemble(&[delta_chunk(json!({"reasoning_content": "hm", "reasoning": "hm"})), finish_chunk("stop")]).unwrap();
    assert_eq!(both.reasoning.as_deref(), Some("hm"));
}

#[tokio::test]
async fn think_tags_are_split_at_any_chunk_boundary() {
    let body = sse_body(&[
        delta_chunk(json!({"content": "<think>\nHm ☸, "})),
        delta_chunk(json!({"content": "so\n</think>\n\n{\"name\": \"logs\", \"arguments\": {}}"})),
        finish_chunk("stop"),
    ]);
    for size in (1..20).chain([body.len()]) {
        let assembler = ChatCompletionsAssembler::new(test_support::test_call(), vec!["logs".into()], Vec::new());
        let reply = assemble_sse(assembler, body.as_bytes(), size).await.end.unwrap();
        assert_eq!((reply.content.as_str(), reply.reasoning.as_deref()), ("", Some("Hm ☸, so")), "{size}");
        assert_eq!(reply.tool_calls, [requested_call("logs", json!({}))], "{size}");
    }
}

#[test]
fn repeated_name_in_many_chunks_assembles_quickly() {
    let piece = |text: &str| call_chunk(json!([{"function": {"name": "a", "arguments": text}}]));
    let mut chunks = vec![piece("{\"x\":\"")];
    chunks.extend((0..20_000).map(|_| piece("{ and more of the same text")));
    chunks.extend([piece("\"}"), finish_chunk("tool_calls")]);
    let reply = assemble(&chunks).unwrap();
    assert_eq!(reply.tool_calls.len(), 1);
    assert!(reply.tool_calls[0].arguments["x"].as_str().unwrap().len() > 500_000);
}

#[test]
fn tool_calls_in_text_are_parsed_with_notice() {
    let mut assembler = ChatCompletionsAssembler::new(test_support::test_call(), vec!["logs".into()], Vec::new());
    let events = [
        delta_chunk(json!({"content": "<tool_call>{\"name\": \"lo"})),
        delta_chunk(json!({"content": "gs\", \"arguments\": {}}</tool_call>"})),
        finish_chunk("stop"),
    ];
    let reply = assemble_events(&mut assembler, &events).unwrap();
    assert_eq!((reply.content.as_str(), reply.stop_reason), ("", StopReason::ToolUse));
    assert_eq!(reply.tool_calls, [requested_call("logs", json!({}))]);
    assert_eq!(reply.notices[0].code, "tool_calls_as_text");
}

#[test]
fn reasoning_in_parts_of_the_content_is_kept() {
    let thinking = json!([{"type": "thinking", "thinking": [{"type": "text", "text": "Pods first."}]}]);
    let chunks = [
        delta_chunk(json!({"content": thinking})),
        delta_chunk(json!({"content": [{"type": "text", "text": "Looking."}]})),
        finish_chunk("stop"),
    ];
    let mut assembler = ChatCompletionsAssembler::new(test_support::test_call(), Vec::new(), Vec::new());
    let reply = assemble_events(&mut assembler, &chunks).unwrap();
    assert_eq!((reply.content.as_str(), reply.reasoning.as_deref()), ("Looking.", Some("Pods first.")));
}
