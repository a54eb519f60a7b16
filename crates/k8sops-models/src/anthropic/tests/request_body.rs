use super::*;

#[test]
fn request_body_matches_protocol() {
    let request = chat_request(test_support::sample_conversation());
    assert_eq!(
        serde_json::to_value(request_body(&request, 100)).unwrap(),
        json!({
            "model": "test-model",
            "max_tokens": 100,
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "tools": [{
                "name": "pods_list",
                "description": "Lists pods.",
                "input_schema": {"type": "object", "properties": {}},
                "cache_control": {"type": "ephemeral"},
            }],
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "what is broken?"},
                    {"type": "text", "text": "in shop"},
                ]},
                {"role": "assistant", "content": [
                    {"type": "text", "text": "Looking."},
                    {"type": "tool_use", "id": "call_1", "name": "pods_list", "input": {"namespace": "shop"}},
                    {"type": "tool_use", "id": "call_2", "name": "pods_get",
                        "input": {"invalid_arguments": "{\"name\": "}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "<tool_output id=\"1\" tool=\"x\">\ncart CrashLoopBackOff\n</tool_output>"},
                    {"type": "tool_result", "tool_use_id": "call_2", "content": "[error]\n<tool_output id=\"1\" tool=\"x\">\nbad arguments\n</tool_output>", "is_error": true,
                        "cache_control": {"type": "ephemeral"}},
                ]},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "call_3", "name": "restart", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "call_3", "content": "[unknown: no result was recorded]",
                        "is_error": true},
                    {"type": "text", "text": "did it work?", "cache_control": {"type": "ephemeral"}},
                ]},
            ],
            "stream": true,
        })
    );
}

#[test]
fn prompt_prefix_is_marked_for_caching() {
    let mut request = chat_request(test_support::sample_conversation());
    request.tools = [request.tools[0].clone(), request.tools[0].clone()].into();
    let marks = |request: &ChatRequest| {
        let body = serde_json::to_value(request_body(request, 100)).unwrap();
        let marked = |block: &&Value| block["cache_control"] == json!({"type": "ephemeral"});
        let all = |blocks: &Value| blocks.as_array().into_iter().flatten().filter(marked).count();
        let messages = body["messages"].as_array().unwrap();
        let blocks: usize = messages.iter().map(|message| all(&message["content"])).sum();
        let last = messages.last().and_then(|message| message["content"].as_array()?.last().cloned());
        (all(&body["system"]), all(&body["tools"]), blocks, last.as_ref().is_some_and(|block| marked(&block)))
    };
    // The API permits at most four marks.
    assert_eq!(marks(&request), (1, 1, 2, true));
    request.system = "".into();
    assert_eq!(marks(&request), (0, 1, 2, true));
    let body = serde_json::to_value(request_body(&request, 100)).unwrap();
    assert_eq!(body.get("system"), None);
    assert_eq!(body["tools"][1]["cache_control"], json!({"type": "ephemeral"}), "one mark on the last tool");
    // The last block may be a tool result.
    request.messages.truncate(5);
    assert_eq!(marks(&request), (0, 1, 2, true));
}

#[test]
fn tools_stay_listed_when_forbidden_or_unavailable() {
    let mut request = chat_request(test_support::sample_conversation());
    request.tool_choice = ToolChoice::None;
    request.temperature = Some(0.5);
    let forbidden = serde_json::to_value(request_body(&request, 100)).unwrap();
    assert_eq!(forbidden["tool_choice"], json!({"type": "none"}));
    assert_eq!(forbidden["tools"][0]["name"], "pods_list");
    assert_eq!(forbidden["temperature"], 0.5);
    request.tool_choice = ToolChoice::Auto;
    request.tools = [].into();
    let gone = serde_json::to_value(request_body(&request, 100)).unwrap();
    let names: Vec<_> = gone["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pods_get", "pods_list", "restart"]);
    assert_eq!(gone["tool_choice"], json!({"type": "none"}));
    request.messages = vec![user_message("hi")];
    let plain = serde_json::to_value(request_body(&request, 100)).unwrap();
    assert_eq!((plain.get("tools"), plain.get("tool_choice")), (None, None));
}

#[test]
fn roles_alternate_starting_with_user() {
    let request = chat_request(vec![
        assistant_message("a", vec![]),
        assistant_message("b", vec![test_support::tool_call("1", "x", json!({}))]),
        user_message("c"),
        user_message("d"),
        tool_message("1", ToolStatus::Unknown, "partial"),
    ]);
    let body = serde_json::to_value(request_body(&request, 1)).unwrap();
    let messages = body["messages"].as_array().unwrap();
    let roles: Vec<_> = messages.iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user"]);
    let kinds: Vec<_> =
        messages[2]["content"].as_array().unwrap().iter().map(|b| b["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["tool_result", "text", "text"]);
    assert_eq!(messages[2]["content"][0]["is_error"], true);
}

#[test]
fn reasoning_returns_unchanged_to_same_model_only() {
    let events = [
        vec![
            start_block(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            delta_event(0, json!({"type": "thinking_delta", "thinking": "Pods first"})),
            delta_event(0, json!({"type": "signature_delta", "signature": "s1"})),
            start_block(1, json!({"type": "redacted_thinking", "data": "secret"})),
            start_block(2, json!({"type": "text", "text": ""})),
            delta_event(2, json!({"type": "text_delta", "text": "I look."})),
            start_block(3, json!({"type": "thinking", "thinking": "", "signature": "s2"})),
            start_block(4, json!({"type": "tool_use", "id": "t", "name": "pods_list", "input": {}})),
            delta_event(4, json!({"type": "input_json_delta", "partial_json": "{}"})),
        ],
        end_events("tool_use").to_vec(),
    ]
    .concat();
    let message = message_from_reply(assemble(&events).unwrap());
    let mut request = chat_request(vec![user_message("hi"), message, tool_message("c0", ToolStatus::Ok, "none")]);
    let content = |request: &ChatRequest| {
        serde_json::to_value(request_body(request, 100)).unwrap()["messages"][1]["content"].clone()
    };
    let call = json!({"type": "tool_use", "id": "c0", "name": "pods_list", "input": {}});
    assert_eq!(
        content(&request),
        json!([
            {"type": "thinking", "thinking": "Pods first", "signature": "s1"},
            {"type": "redacted_thinking", "data": "secret"},
            {"type": "text", "text": "I look."},
            {"type": "thinking", "thinking": "", "signature": "s2"},
            call,
        ])
    );
    request.model = "another".into();
    assert_eq!(content(&request), json!([{"type": "text", "text": "I look."}, call]));
}

#[test]
fn paused_reply_returns_server_tool_blocks() {
    let search = json!({"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {}});
    let found = json!({"type": "web_search_tool_result", "tool_use_id": "srv", "content": [{"url": "u"}]});
    let events = [
        vec![
            start_block(0, json!({"type": "text", "text": "Searching."})),
            start_block(1, search),
            delta_event(1, json!({"type": "input_json_delta", "partial_json": "{\"query\": "})),
            delta_event(1, json!({"type": "input_json_delta", "partial_json": "\"k8s\"}"})),
            start_block(2, found.clone()),
        ],
        end_events("pause_turn").to_vec(),
    ]
    .concat();
    let paused = assemble(&events).unwrap();
    assert_eq!((paused.stop_reason, paused.tool_calls.len()), (StopReason::Paused, 0));
    let body =
        serde_json::to_value(request_body(&chat_request(vec![user_message("hi"), message_from_reply(paused)]), 100))
            .unwrap();
    let search = json!({"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {"query": "k8s"}});
    assert_eq!(body["messages"][1]["content"], json!([{"type": "text", "text": "Searching."}, search, found]));
    assert_eq!(body["messages"].as_array().unwrap().len(), 2, "the model continues its reply");
}

#[test]
fn thinking_options_depend_on_model() {
    let asked = |effort: Option<ReasoningEffort>, plan: &MessagesPlan, messages: Vec<Arc<ChatMessage>>| {
        let request = ChatRequest { reasoning: effort, temperature: Some(0.1), ..chat_request(messages) };
        let body = serde_json::to_value(MessagesBody::build(&request, plan)).unwrap();
        (body["thinking"].clone(), body["output_config"].clone(), body["temperature"].clone())
    };
    let hi = || vec![user_message("hi")];
    let adaptive = json!({"type": "adaptive", "display": "summarized"});
    let none = || (json!(null), json!(null), json!(0.1));
    assert_eq!(asked(None, &default_plan(100), hi()), none());
    let high = (adaptive.clone(), json!({"effort": "high"}), json!(null));
    assert_eq!(asked(Some(ReasoningEffort::High), &default_plan(100), hi()), high);
    assert_eq!(asked(Some(ReasoningEffort::Off), &default_plan(100), hi()).0, json!({"type": "disabled"}));
    let thinks = MessagesPlan { thinking: ThinkingMode::Adaptive, ..default_plan(100) };
    assert_eq!(
        asked(None, &thinks, hi()),
        (adaptive, json!(null), json!(null)),
        "a summary of the reasoning is requested"
    );
    let no = MessagesPlan { thinking: ThinkingMode::No, ..default_plan(100) };
    assert_eq!(asked(Some(ReasoningEffort::High), &no, hi()), none());
    let cold = MessagesPlan { takes_temperature: false, ..default_plan(100) };
    assert_eq!(asked(None, &cold, hi()).2, json!(null));
    let budget = MessagesPlan { thinking: ThinkingMode::Budget, ..default_plan(20_000) };
    assert_eq!(asked(None, &budget, hi()), none());
    assert_eq!(
        asked(Some(ReasoningEffort::High), &budget, hi()).0,
        json!({"type": "enabled", "budget_tokens": 10_000})
    );
    // Reasoning cannot start within a turn that began without it.
    let unthought = vec![user_message("hi"), assistant_message("", vec![test_support::tool_call("a", "x", json!({}))])];
    assert_eq!(asked(Some(ReasoningEffort::High), &budget, unthought).0, json!(null));
}

#[test]
fn trailing_reasoning_is_not_returned() {
    let asked = |messages: Vec<Arc<ChatMessage>>| -> Value {
        let body = serde_json::to_value(request_body(&chat_request(messages), 100)).unwrap();
        body["messages"].as_array().unwrap().iter().map(|m| json!([m["role"], m["content"]])).collect()
    };
    let alone = asked(vec![user_message("hi"), message_from_reply(thought_alone()), user_message("well?")]);
    let texts = |role: &str| alone.as_array().unwrap().iter().filter(|m| m[0] == role).count();
    assert_eq!((texts("user"), texts("assistant")), (1, 0), "{alone}");
    let events = [
        start_block(0, json!({"type": "thinking", "thinking": "", "signature": "s1"})),
        start_block(1, json!({"type": "text", "text": "So."})),
        start_block(2, json!({"type": "thinking", "thinking": "", "signature": "s2"})),
        start_block(3, json!({"type": "redacted_thinking", "data": "x"})),
    ];
    let spoken = assemble(&[events.to_vec(), end_events("max_tokens").to_vec()].concat()).unwrap();
    let sent = asked(vec![user_message("hi"), message_from_reply(spoken), user_message("go on")]);
    let kinds: Vec<_> = sent[1][1].as_array().unwrap().iter().map(|block| block["type"].clone()).collect();
    assert_eq!(kinds, ["thinking", "text"]);
}

#[test]
fn temperature_is_clamped_to_protocol_maximum() {
    let request = ChatRequest { temperature: Some(1.7), ..chat_request(vec![user_message("hi")]) };
    assert_eq!(serde_json::to_value(request_body(&request, 100)).unwrap()["temperature"], 1.0);
}

/// A conversation in which two searches found tools, and one of them was called.
fn searching_conversation() -> ChatRequest {
    let search = |id| assistant_message("", vec![tool_call(id, "find_tools", json!({"query": "nodes"}))]);
    let result = |id| tool_message(id, ToolStatus::Ok, "### nodes_top\nShows the use of nodes.");
    let mut request = chat_request(vec![
        user_message("are the nodes full?"),
        search("s1"),
        result("s1"),
        assistant_message("", vec![tool_call("c1", "nodes_top", json!({}))]),
        tool_message("c1", ToolStatus::Ok, "90 %"),
        user_message("and the disks?"),
        search("s2"),
        result("s2"),
    ]);
    request.tools = ["find_tools", "pods_list"].map(tool_spec).into();
    request.found_tools = found_tools(&[("s1", "nodes_top"), ("s2", "nodes_top nodes_stats")]);
    request
}

#[test]
fn found_tools_are_loaded_by_references() {
    let mut request = searching_conversation();
    request.place_found_tools(FoundToolPlace::Conversation);
    let body = serde_json::to_value(request_body(&request, 100)).unwrap();
    let tools = body["tools"].as_array().unwrap();
    let deferred: Vec<_> = tools.iter().map(|tool| (&tool["name"], tool.get("defer_loading"))).collect();
    let yes = json!(true);
    assert_eq!(
        deferred,
        [
            (&json!("find_tools"), None),
            (&json!("pods_list"), None),
            (&json!("nodes_top"), Some(&yes)),
            (&json!("nodes_stats"), Some(&yes)),
        ]
    );
    // A deferred tool with a cache mark is rejected.
    let marked: Vec<_> = tools.iter().filter(|tool| tool.get("cache_control").is_some()).collect();
    assert_eq!((marked.len(), &marked[0]["name"]), (1, &json!("pods_list")));
    let reference = |name: &str| json!({"type": "tool_reference", "tool_name": name});
    let messages = body["messages"].as_array().unwrap();
    assert_eq!(messages[2]["content"][0]["content"], json!([reference("nodes_top")]));
    assert_eq!(messages[2]["content"][1], json!({"type": "text", "text": TOOLS_LOADED}));
    assert_eq!(messages[4]["content"][0]["content"], "<tool_output id=\"1\" tool=\"x\">\n90 %\n</tool_output>");
    let last = messages.last().unwrap()["content"].as_array().unwrap();
    assert_eq!(last[0]["content"], json!([reference("nodes_top"), reference("nodes_stats")]));
    assert_eq!(last[1], json!({"type": "text", "text": TOOLS_LOADED, "cache_control": {"type": "ephemeral"}}));
}

#[test]
fn search_result_is_text_where_nothing_is_loaded() {
    let mut request = searching_conversation();
    request.place_found_tools(FoundToolPlace::List);
    let body = serde_json::to_value(request_body(&request, 100)).unwrap().to_string();
    assert!(body.contains("### nodes_top"), "{body}");
    assert!(!body.contains("tool_reference") && !body.contains("defer_loading") && !body.contains(TOOLS_LOADED));
}

#[test]
fn history_is_sent_as_it_was_after_more_tools_are_found() {
    let mut request = searching_conversation();
    let send = |request: &ChatRequest| {
        let mut request = request.clone();
        request.place_found_tools(FoundToolPlace::Conversation);
        let mut body = serde_json::to_value(request_body(&request, 100)).unwrap();
        let without_mark = |block: &mut Value| block.as_object_mut().unwrap().remove("cache_control");
        for message in body["messages"].as_array_mut().unwrap() {
            message["content"].as_array_mut().unwrap().iter_mut().for_each(|block| drop(without_mark(block)));
        }
        let tools = body["tools"].as_array().unwrap().clone();
        let listed: Vec<Value> = tools.into_iter().filter(|tool| tool.get("defer_loading").is_none()).collect();
        (listed, body["messages"].as_array().unwrap().clone())
    };
    let all = request.clone();
    request.messages.truncate(5);
    // In the second run, the tool that the first one found is at the end of the list, for other servers.
    let mut listed = request.tools.to_vec();
    listed.push(tool_spec("nodes_top"));
    let (first_tools, first) = send(&request);
    let (second_tools, second) = send(&ChatRequest { tools: listed.into(), ..all });
    assert_eq!(first_tools, second_tools);
    assert_eq!(first[..4], second[..4]);
    let last_of_first = first.last().unwrap()["content"].as_array().unwrap();
    assert_eq!(second[4]["content"].as_array().unwrap()[..last_of_first.len()], last_of_first[..]);
}
