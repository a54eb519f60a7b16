use super::*;

#[test]
fn request_body_matches_protocol() {
    let request = chat_request(test_support::sample_conversation());
    assert_eq!(
        request_body(&request, ReplyLimitField::MaxTokens),
        json!({
            "model": "test-model",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "what is broken?\n\nin shop"},
                {"role": "assistant", "content": "Looking.", "tool_calls": [
                    {"id": "call_1", "type": "function",
                        "function": {"name": "pods_list", "arguments": "{\"namespace\":\"shop\"}"}},
                    {"id": "call_2", "type": "function",
                        "function": {"name": "pods_get", "arguments": "{\"invalid_arguments\":\"{\\\"name\\\": \"}"}},
                ]},
                {"role": "tool", "tool_call_id": "call_1", "content": "<tool_output tool=\"x\">\ncart CrashLoopBackOff\n</tool_output>"},
                {"role": "tool", "tool_call_id": "call_2", "content": "[error]\n<tool_output tool=\"x\">\nbad arguments\n</tool_output>"},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "call_3", "type": "function", "function": {"name": "restart", "arguments": "{}"}},
                ]},
                {"role": "tool", "tool_call_id": "call_3", "content": "[unknown: no result was recorded]"},
                {"role": "user", "content": "did it work?"},
            ],
            "tools": [{"type": "function", "function": {
                "name": "pods_list",
                "description": "Lists pods.",
                "parameters": {"type": "object", "properties": {}},
            }}],
            "stream": true,
            "stream_options": {"include_usage": true},
        })
    );
}

#[test]
fn unset_options_are_not_sent() {
    let mut request = chat_request(vec![user_message("hi")]);
    request.temperature = Some(0.5);
    request.max_tokens = Some(100);
    request.tool_choice = ToolChoice::None;
    let plain = request_body(&request, ReplyLimitField::MaxTokens);
    assert_eq!(
        (&plain["temperature"], &plain["max_tokens"], &plain["tool_choice"]),
        (&json!(0.5), &json!(100), &json!("none"))
    );
    let completion = request_body(&request, ReplyLimitField::MaxCompletionTokens);
    assert_eq!((completion.get("max_tokens"), &completion["max_completion_tokens"]), (None, &json!(100)));
    request.tools = [].into();
    let without = request_body(&request, ReplyLimitField::MaxTokens);
    assert_eq!((without.get("tools"), without.get("tool_choice")), (None, None));
}

#[test]
fn reasoning_returns_under_its_original_field() {
    let done = || {
        [
            call_chunk(
                json!([{"index": 0, "id": "a", "function": {"name": "x", "arguments": "{}"}, "extra_content": {"google": {"thought_signature": "sig"}}}]),
            ),
            finish_chunk("tool_calls"),
        ]
    };
    let message = |fields: &[Value]| {
        let thought = fields.iter().map(|fields| delta_chunk(fields.clone()));
        message_from_reply(assemble(&thought.chain(done()).collect::<Vec<_>>()).unwrap())
    };
    let given_back = |message: Arc<ChatMessage>, more: &[Arc<ChatMessage>]| {
        let result = test_support::tool_message("c0", ToolStatus::Ok, "r");
        let request = chat_request([vec![user_message("hi"), message, result], more.to_vec()].concat());
        request_body(&request, ReplyLimitField::MaxTokens)["messages"][2].clone()
    };
    for field in ["reasoning_content", "reasoning"] {
        let thought = || message(&[json!({field: "hm, "}), json!({field: "so"})]);
        let sent = given_back(thought(), &[]);
        assert_eq!(sent[field], "hm, so");
        assert_eq!(sent["tool_calls"][0]["extra_content"], json!({"google": {"thought_signature": "sig"}}));
        let later = given_back(thought(), &[user_message("more")]);
        assert_eq!(
            (later.get(field), later["tool_calls"][0].get("extra_content").is_some()),
            (None, true),
            "plain reasoning is returned within its turn only"
        );
    }
    let details =
        [json!({"type": "reasoning.encrypted", "data": "e"}), json!({"type": "reasoning.text", "text": "hm"})];
    let detailed = message(&[
        json!({"reasoning": "hm", "reasoning_details": [details[0]]}),
        json!({"reasoning_details": [details[1]]}),
    ]);
    let sent = given_back(detailed, &[user_message("more")]);
    assert_eq!((&sent["reasoning_details"], sent.get("reasoning")), (&json!(details), None));
}
