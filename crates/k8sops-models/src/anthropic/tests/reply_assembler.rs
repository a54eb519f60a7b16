use super::*;

#[tokio::test]
async fn reply_is_independent_of_chunk_boundaries() {
    let (body, reply) = full_reply();
    for size in (1..40).chain([body.len()]) {
        let seen =
            assemble_sse(MessagesAssembler::new(test_support::test_call(), Vec::new()), body.as_bytes(), size).await;
        assert_eq!(seen.end.as_ref(), Ok(&reply), "{size}");
    }
}

#[test]
fn stop_reasons_are_mapped() {
    for (word, reason) in [
        ("end_turn", StopReason::EndTurn),
        ("stop_sequence", StopReason::EndTurn),
        ("max_tokens", StopReason::MaxTokens),
        ("model_context_window_exceeded", StopReason::MaxTokens),
        ("refusal", StopReason::Refusal),
        ("pause_turn", StopReason::Paused),
        ("something new", StopReason::Other),
    ] {
        assert_eq!(assemble(&end_events(word)).unwrap().stop_reason, reason, "{word}");
    }
}

#[test]
fn complete_input_is_parsed_and_partial_input_kept() {
    let mut events = vec![start_block(0, json!({"type": "tool_use", "name": "a", "input": {"x": 1}}))];
    events.extend(end_events("end_turn"));
    let whole = assemble(&events).unwrap();
    assert_eq!((&whole.tool_calls[0].arguments, whole.stop_reason), (&json!({"x": 1}), StopReason::ToolUse));
    events.insert(1, delta_event(0, json!({"type": "input_json_delta", "partial_json": "{\"x\": "})));
    assert_eq!(assemble(&events).unwrap().tool_calls[0].arguments, json!("{\"x\": "));
}

#[test]
fn truncated_call_without_input_is_invalid() {
    let call = |index: u64, input: Value| start_block(index, json!({"type": "tool_use", "name": "a", "input": input}));
    let arguments = |events: &[Value], reason: &str| -> Vec<_> {
        let reply = assemble(&[events, &end_events(reason)].concat()).unwrap();
        reply.tool_calls.into_iter().map(|call| call.arguments).collect()
    };
    let two = [call(0, json!({})), call(1, json!({}))];
    assert_eq!(arguments(&two, "tool_use"), [json!({}), json!({})]);
    // The first call is complete, because another one follows it.
    assert_eq!(arguments(&two, "max_tokens"), [json!({}), json!("")]);
    assert_eq!(arguments(&[call(0, json!({"x": 1}))], "max_tokens"), [json!({"x": 1})]);
    let written = [call(0, json!({})), delta_event(0, json!({"type": "input_json_delta", "partial_json": "{}"}))];
    assert_eq!(arguments(&written, "max_tokens"), [json!({})]);
}

#[tokio::test]
async fn truncated_stream_is_an_error() {
    let begun = sse_body(&[delta_event(0, json!({"type": "text_delta", "text": "half a"}))]);
    let (seen, _server) = ask_once(ScriptedResponse::stream(&[&begun])).await;
    assert!(matches!(seen.end, Err(ModelError { kind: ModelErrorKind::MalformedStream, .. })), "{seen:?}");
    assert_eq!(seen.text, "half a");
    let (seen, _server) = ask_once(ScriptedResponse::cut(&[&begun])).await;
    assert!(matches!(seen.end, Err(ModelError { kind: ModelErrorKind::Network, .. })), "{seen:?}");
    let (seen, _server) =
        ask_once(ScriptedResponse::stream(&[&begun, "event: content_block_delta\ndata: {\"type\": \n\n"])).await;
    assert!(matches!(seen.end, Err(ModelError { kind: ModelErrorKind::MalformedStream, .. })), "{seen:?}");
}

#[tokio::test]
async fn stream_errors_are_mapped() {
    for (kind, code) in [
        ("overloaded_error", "overloaded"),
        ("api_error", "overloaded"),
        ("rate_limit_error", "rate_limited"),
        ("authentication_error", "auth"),
        ("permission_error", "auth"),
        ("invalid_request_error", "invalid_request"),
        ("request_too_large", "context_too_long"),
        ("timeout_error", "timeout"),
    ] {
        let body = sse_body(&[json!({"type": "error", "error": {"type": kind, "message": "Overloaded"}})]);
        let (seen, _server) = ask_once(ScriptedResponse::stream(&[&body])).await;
        assert_eq!(seen.end.unwrap_err().code(), code, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn pings_alone_time_out_but_slow_content_does_not() {
    let start = tokio::time::Instant::now();
    let ping = "event: ping\ndata: {\"type\": \"ping\"}";
    let input = "data: {\"type\":\"content_block_delta\",\"delta\":{\"partial_json\":\" \"}}";
    let stream =
        test_support::slow_reply_stream(MessagesAssembler::new(test_support::test_call(), Vec::new()), input, 60, ping);
    let error = collect_reply(stream).await.end.unwrap_err();
    assert!(
        matches!(&error, ModelError { kind: ModelErrorKind::Timeout, message: m, .. } if m.contains("150 s")),
        "{error:?}"
    );
    assert_eq!(start.elapsed().as_secs(), 60 * 20 + 150);
}

#[test]
fn blocks_with_equal_index_are_separate() {
    let events = [
        start_block(0, json!({"type": "text", "text": "Both."})),
        start_block(0, json!({"type": "tool_use", "id": "t1", "name": "a", "input": {}})),
        delta_event(0, json!({"type": "input_json_delta", "partial_json": "{\"x\":1}"})),
        start_block(0, json!({"type": "tool_use", "id": "t1", "name": "b", "input": {}})),
        delta_event(0, json!({"type": "input_json_delta", "partial_json": "{\"y\":"})),
        delta_event(0, json!({"type": "input_json_delta", "partial_json": "2}"})),
    ];
    let reply = assemble(&[events.to_vec(), end_events("tool_use").to_vec()].concat()).unwrap();
    let calls: Vec<_> = reply.tool_calls.iter().map(|call| (call.name.as_str(), call.arguments.clone())).collect();
    assert_eq!(calls, [("a", json!({"x": 1})), ("b", json!({"y": 2}))]);
}

#[test]
fn invalid_usage_values_are_ignored() {
    for nonsense in [json!(-1), json!("many"), json!(1.5), json!(null), json!([]), json!(u64::MAX)] {
        let usage = json!({"input_tokens": nonsense, "output_tokens": nonsense, "cache_read_input_tokens": nonsense,
            "cache_creation_input_tokens": nonsense, "output_tokens_details": nonsense});
        let events = [
            json!({"type": "message_start", "message": {"usage": usage}}),
            start_block(0, json!({"type": "text", "text": "ok"})),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}),
            json!({"type": "message_stop"}),
        ];
        assert_eq!(assemble(&events).unwrap().content, "ok", "{nonsense}");
    }
}
