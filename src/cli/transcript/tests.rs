//! Sequences of frames as a service sends them, and what they show on the screen.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    super::{
        service::ModelSelection,
        terminal::{InputSource, ScreenUpdate, TerminalCapabilities, TerminalScreen},
    },
    QuestionSubject, TranscriptView,
};

/// Applies frames to a view and returns what is on the screen, without styles.
fn play(view: &mut TranscriptView, frames: &[Value]) -> String {
    let mut screen = String::new();
    for frame in frames {
        for op in view.apply_frame(frame) {
            match op {
                ScreenUpdate::Text(text) => screen += &text,
                ScreenUpdate::Line(_, line) => {
                    if !screen.is_empty() && !screen.ends_with('\n') {
                        screen.push('\n');
                    }
                    screen += &line;
                    screen.push('\n');
                }
                ScreenUpdate::EndOfText | ScreenUpdate::Activity(_) => {}
            }
        }
    }
    screen
}

fn hello(last_seq: u64) -> Value {
    json!({"type": "hello", "protocol": 1, "last_seq": last_seq, "oldest_seq": 1, "status": {"is_processing": false}})
}

fn token(id: &str, offset: usize, content: &str) -> Value {
    json!({"type": "token", "message_id": id, "offset": offset, "content": content, "run_id": "r"})
}

fn reply(seq: u64, id: &str, content: &str) -> Value {
    json!({"type": "assistant_message", "seq": seq, "message_id": id, "content": content, "tool_calls": [],
        "usage": {}, "stop_reason": "end_turn"})
}

fn event(seq: u64, event_type: &str, fields: Value) -> Value {
    let mut event = fields;
    event["seq"] = json!(seq);
    event["type"] = json!(event_type);
    event
}

/// Starts a run and streams the first words of its reply.
fn start_run(view: &mut TranscriptView) -> String {
    view.record_sent_message("c1", InputSource::Terminal);
    play(
        view,
        &[
            hello(1),
            event(1, "session_created", json!({"settings": {"provider": "p", "model": "m"}})),
            json!({"type": "ack", "command_id": "c1", "seq": 1}),
            event(2, "user_message", json!({"message_id": "u", "content": "why?", "command_id": "c1"})),
            event(3, "run_started", json!({"provider": "p", "model": "m", "attempt": 1})),
            token("a", 0, "It "),
            token("a", 3, "is dö"),
        ],
    )
}

#[test]
fn final_message_adds_only_the_missing_text() {
    let mut view = TranscriptView::default();
    assert!(view.is_busy(), "not connected");
    assert_eq!(start_run(&mut view), "It is dö");
    assert!(view.is_busy() && view.is_in_run());
    let end = play(
        &mut view,
        &[
            token("a", 9, "wn"),
            reply(4, "a", "It is döwn."),
            event(
                5,
                "run_finished",
                json!({"outcome": "completed", "duration_ms": 1500, "usage": {"input_tokens": 1200, "output_tokens": 34}}),
            ),
        ],
    );
    assert_eq!(end, "wn.\n1.5 s · 1.2k tokens in, 34 out\n");
    assert!(!view.is_busy());
    let model = ModelSelection { provider: "p".to_owned(), model: "m".to_owned() };
    assert_eq!(view.current_model(), Some(&model));
}

#[test]
fn reconnect_loses_and_repeats_nothing() {
    let mut view = TranscriptView::default();
    assert_eq!(start_run(&mut view), "It is dö");
    view.mark_connection_lost();
    assert!(view.is_busy());
    // The preview starts with the text so far: less, as much, or more than the old connection had shown.
    let again = play(&mut view, &[hello(3), token("a", 0, "It "), token("a", 3, "is döwn"), token("a", 11, " again")]);
    assert_eq!(again, "wn again");
    let replayed = play(&mut view, &[event(3, "run_started", json!({})), reply(4, "a", "It is döwn again")]);
    assert_eq!(replayed, "\n", "a known event is skipped, and the message is complete");
    view.mark_connection_lost();
    let late =
        play(&mut view, &[hello(5), token("a", 0, "It is"), event(5, "run_finished", json!({"outcome": "completed"}))]);
    assert_eq!(late, "\n", "a late preview of a finished message is not shown");
}

#[test]
fn final_message_fills_a_gap_in_the_preview() {
    let mut view = TranscriptView::default();
    start_run(&mut view);
    assert_eq!(play(&mut view, &[token("a", 90, "lost"), reply(4, "a", "It is döwn, lost")]), "wn, lost\n");
}

#[test]
fn recovered_run_discards_the_preview() {
    let mut view = TranscriptView::default();
    start_run(&mut view);
    let recovered = play(
        &mut view,
        &[
            event(4, "run_recovered", json!({"attempt": 2, "superseded": ["a"], "reason": "owner_lost"})),
            token("a", 9, "never shown"),
            token("b", 0, "It is fine"),
            reply(5, "b", "It is fine"),
        ],
    );
    assert_eq!(
        recovered,
        "\ninterrupted (owner_lost), resuming; the unfinished text above is discarded\nIt is fine\n"
            .trim_start_matches('\n')
    );
}

#[test]
fn restarted_text_that_differs_is_shown_again() {
    let mut view = TranscriptView::default();
    start_run(&mut view);
    let restarted = play(&mut view, &[token("a", 0, "No, "), token("a", 4, "it works")]);
    assert_eq!(restarted, "the text above is superseded; the current text is:\nNo, it works");
}

#[test]
fn tool_calls_are_shown_as_they_run() {
    let mut view = TranscriptView::default();
    view.apply_frame(&hello(0));
    let call = |id: &str, name: &str| json!({"id": id, "name": name, "arguments": {"namespace": "prod"}});
    let start = |seq, id: &str, name: &str| {
        event(
            seq,
            "tool_start",
            json!({"tool_call_id": id, "name": name, "server": "s", "arguments": {"namespace": "prod"}, "effect": "read", "attempt": 1}),
        )
    };
    let mut said = reply(1, "a", "");
    said["tool_calls"] = json!([call("t1", "pods_list"), call("t2", "pods_log"), call("t3", "pods_delete")]);
    let shown = play(&mut view, &[said, start(2, "t1", "pods_list"), start(3, "t2", "pods_log")]);
    assert_eq!(shown, "", "a call that only reads is shown when it ends");
    assert_eq!(view.activity.as_deref(), Some("2 tools: pods_list, pods_log"));
    let ended = play(
        &mut view,
        &[
            event(
                4,
                "tool_end",
                json!({"tool_call_id": "t1", "status": "ok", "content": "x", "truncated": true, "bytes": 2048, "duration_ms": 240}),
            ),
            json!({"type": "tool_progress", "tool_call_id": "t2", "progress": 2.034, "total": 5.0}),
        ],
    );
    assert_eq!(ended, "pods_list namespace=prod · 240 ms · 2.0 KiB · truncated for the model\n");
    assert_eq!(view.activity.as_deref(), Some("pods_log 2/5"));
    let failed = play(
        &mut view,
        &[
            event(
                5,
                "tool_end",
                json!({"tool_call_id": "t2", "status": "error", "content": "no such pod\u{1b}[2J\n\nl2\nl3\nl4", "duration_ms": 5}),
            ),
            event(6, "tool_end", json!({"tool_call_id": "t3", "status": "unknown", "content": "", "duration_ms": 0})),
        ],
    );
    assert_eq!(
        failed,
        "pods_log namespace=prod: error · 5 ms\n  no such pod\u{fffd}[2J\n  l2\n  l3\npods_delete: outcome unknown: it may have taken effect\n"
    );
}

#[test]
fn approval_shows_its_arguments_in_full() {
    let mut view = TranscriptView::default();
    start_run(&mut view);
    let long = "x".repeat(500);
    let asked = event(
        4,
        "approval_requested",
        json!({"approval_id": "p1", "tool_call_id": "t", "name": "scale", "arguments": {"why": long}, "effect": "mutating", "reason": "it scales", "expires_at": "2026-11-24T10:00:00.000Z"}),
    );
    let shown = play(&mut view, &[reply(5, "a", "It is dö")]);
    assert_eq!(shown, "\n");
    let shown = play(&mut view, &[event(6, "approval_requested", asked)]);
    assert!(shown.starts_with("scale changes the cluster\n") && shown.contains(&long), "{shown}");
    assert_eq!(view.next_question(&BTreeMap::new()).map(|a| a.id.as_str()), Some("p1"));
    view.record_answer("p1", "c9");
    assert_eq!(view.next_question(&BTreeMap::new()), None, "answered here and not resolved yet");
    play(&mut view, &[json!({"type": "error", "command_id": "c9", "code": "invalid_request", "message": "no"})]);
    assert!(view.next_question(&BTreeMap::new()).is_some(), "a rejected answer is asked for again");
    let resolved = event(
        7,
        "approval_resolved",
        json!({"approval_id": "p1", "decision": "approve", "arguments": {"a": 1}, "by": "user:anna", "comment": "ok then"}),
    );
    assert_eq!(play(&mut view, &[resolved]), "scale approved by anna, with changed arguments a=1: ok then\n");
    assert_eq!(view.next_question(&BTreeMap::new()), None);
}

#[test]
fn approval_closes_with_its_call() {
    let mut view = TranscriptView::default();
    start_run(&mut view);
    let asked = |seq, approval: &str, call: &str| {
        let fields = json!({"approval_id": approval, "tool_call_id": call, "name": "scale", "arguments": {}});
        event(seq, "approval_requested", fields)
    };
    let ended = |seq, call: &str| {
        let fields = json!({"tool_call_id": call, "status": "cancelled", "content": "", "duration_ms": 0});
        event(seq, "tool_end", fields)
    };
    play(&mut view, &[asked(4, "p1", "t1"), asked(5, "p2", "t2")]);
    view.record_answer("p1", "c9");
    play(&mut view, &[ended(6, "t1")]);
    assert_eq!(view.pending_question("p1"), None);
    // A late rejection of the answer does not open the question again.
    play(&mut view, &[json!({"type": "error", "command_id": "c9", "code": "approval_closed", "message": "too late"})]);
    assert_eq!(
        view.next_question(&BTreeMap::new()).map(|a| a.id.as_str()),
        Some("p2"),
        "the question of another call stays open"
    );
    play(&mut view, &[ended(7, "t2")]);
    assert_eq!(view.next_question(&BTreeMap::new()), None);
    assert!(view.is_in_run(), "the run continues");
}

#[test]
fn unknown_frames_are_skipped() {
    let mut view = TranscriptView::default();
    let one = |first: u64, text: &str| {
        [
            event(first, "user_message", json!({"message_id": "u", "content": text, "command_id": "other"})),
            event(first + 1, "run_started", json!({})),
            event(first + 2, "brand_new_type", json!({"x": [1]})),
            json!({"type": "brand_new_transient"}),
            json!("not even an object"),
            reply(first + 3, &format!("a{first}"), "done"),
            event(first + 4, "run_finished", json!({"outcome": "completed", "duration_ms": 10})),
        ]
    };
    let frames: Vec<Value> = std::iter::once(hello(10)).chain(one(1, "first")).chain(one(6, "second")).collect();
    let shown = play(&mut view, &frames);
    assert_eq!(shown, "> first\ndone\n10 ms\n> second\ndone\n10 ms\n");
    assert!(!view.is_busy());
}

#[test]
fn cancelled_and_failed_runs_are_shown() {
    let mut view = TranscriptView::default();
    start_run(&mut view);
    let mut cut = reply(4, "a", "It is dö");
    cut["stop_reason"] = json!("cancelled");
    let shown = play(&mut view, &[cut, event(5, "run_finished", json!({"outcome": "cancelled", "duration_ms": 10}))]);
    assert_eq!(shown, "\ncancelled here\ncancelled · 10 ms\n");
    play(&mut view, &[event(6, "run_started", json!({})), token("z", 0, "half")]);
    let failed = event(7, "run_failed", json!({"code": "rate_limited", "message": "slow down", "retryable": true}));
    assert_eq!(
        play(&mut view, &[failed]),
        "the text above is incomplete\nrate_limited: slow down (the same message may succeed later)\n"
    );
    assert!(!view.is_busy());
}

#[test]
fn rejected_message_returns_to_the_prompt() {
    let mut view = TranscriptView::default();
    view.apply_frame(&hello(0));
    view.record_sent_message("c1", InputSource::Pipe);
    assert!(view.is_busy());
    let refusal = json!({"type": "error", "command_id": "c1", "code": "message_too_long", "message": "too long"});
    assert_eq!(play(&mut view, &[refusal]), "too long\n");
    assert!(!view.is_busy());
}

#[test]
fn snapshot_shows_newest_messages_and_running_tools() {
    let mut view = TranscriptView::default();
    let mut messages: Vec<Value> =
        (1..=30).map(|seq| json!({"role": "user", "seq": seq, "content": format!("m{seq}")})).collect();
    messages.push(json!({"role": "assistant", "seq": 31, "content": "Checking.", "tool_calls": [{"id": "t1", "name": "get"}, {"id": "t2", "name": "scale"}, {"id": "t3", "name": "log"}]}));
    messages
        .push(json!({"role": "tool", "seq": 32, "tool_call_id": "t1", "name": "get", "status": "ok", "content": "x"}));
    let snapshot = json!({"type": "snapshot", "as_of_seq": 40, "messages": messages, "settings": {"provider": "p", "model": "m"},
        "open_run": "r", "pending_approvals": [{"approval_id": "p1", "tool_call_id": "t2", "name": "scale", "arguments": {}, "effect": "mutating", "reason": "x"}]});
    let mut greeting = hello(40);
    greeting["status"]["is_processing"] = json!(true);
    let shown = play(&mut view, &[greeting, snapshot.clone()]);
    assert!(shown.starts_with("… 20 older messages\n> m21\n"), "{shown}");
    assert!(shown.contains("Checking.\n[1] get ok\nscale changes the cluster"), "{shown}");
    assert!(view.is_busy() && view.next_question(&BTreeMap::new()).is_some());
    assert_eq!(view.running_tools.keys().collect::<Vec<_>>(), ["t3"]);
    // After a gap on a later connection only what is new is shown.
    let mut later = snapshot;
    later["as_of_seq"] = json!(50);
    later["pending_approvals"] = json!([]);
    later["open_run"] = Value::Null;
    later["messages"].as_array_mut().unwrap().push(json!({"role": "assistant", "seq": 45, "content": "done"}));
    view.mark_connection_lost();
    let shown = play(&mut view, &[hello(50), json!({"type": "gap", "requested": 40, "oldest_seq": 44}), later]);
    assert_eq!(shown, "older events of this session are no longer kept\ndone\n");
    assert!(!view.is_busy() && view.next_question(&BTreeMap::new()).is_none());
}

#[test]
fn spinner_shows_the_activity() {
    let mut view = TranscriptView::default();
    let said = |view: &mut TranscriptView, frame: Value| {
        view.apply_frame(&frame);
        view.activity.clone()
    };
    view.record_sent_message("c", InputSource::Terminal);
    assert_eq!(said(&mut view, hello(0)).as_deref(), Some("waiting"));
    let user = event(1, "user_message", json!({"content": "x", "command_id": "c"}));
    assert_eq!(said(&mut view, user).as_deref(), Some("waiting"));
    assert_eq!(said(&mut view, event(2, "run_started", json!({}))).as_deref(), Some("thinking"));
    assert_eq!(said(&mut view, json!({"type": "reasoning", "content": "hm"})).as_deref(), Some("reasoning"));
    assert_eq!(said(&mut view, token("a", 0, "x")), None, "the text itself shows it");
    assert_eq!(said(&mut view, reply(3, "a", "x")).as_deref(), Some("thinking"));
    assert_eq!(said(&mut view, event(4, "run_finished", json!({}))), None);
}

#[test]
fn server_input_is_attributed_to_its_server() {
    let mut view = TranscriptView::default();
    start_run(&mut view);
    let asked = json!({"input_id": "i1", "tool_call_id": "t", "server": "prod", "message": "Delete 3 pods?\u{1b}[2J",
        "schema": {"type": "object", "properties": {"confirm": {"type": "boolean", "default": false}}}});
    let shown = play(&mut view, &[event(4, "input_requested", asked)]);
    assert!(shown.starts_with("prod asks: Delete 3 pods?") && !shown.contains('\u{1b}'), "{shown}");
    let question = view.next_question(&BTreeMap::new()).unwrap();
    assert_eq!((question.subject, question.id.as_str()), (QuestionSubject::ServerInput, "i1"));
    assert_eq!(question.arguments, json!({"confirm": false}));
    let shown =
        play(&mut view, &[event(5, "input_resolved", json!({"input_id": "i1", "action": "decline", "by": "user:a"}))]);
    assert_eq!((shown.as_str(), view.next_question(&BTreeMap::new())), ("declined by a\n", None));
}

#[test]
fn run_with_every_kind_of_line_is_rendered() {
    let scale = json!({"namespace": "shop", "name": "cart", "replicas": 5});
    let mut first_reply = reply(6, "a", "Checking pods.\nScaling cart.");
    first_reply["tool_calls"] = json!([{"id": "t1", "name": "pods_list"}, {"id": "t2", "name": "deployment_scale"}]);
    let frames = [
        hello(0),
        event(1, "session_created", json!({"settings": {"provider": "openai", "model": "gpt"}})),
        event(2, "user_message", json!({"message_id": "u", "content": "scale cart to 5", "command_id": "other"})),
        event(3, "title_changed", json!({"title": "Cart", "by": "user:anna"})),
        event(4, "run_started", json!({"attempt": 1})),
        event(5, "memory_recalled", json!({"memories": [{"content": "cart runs in shop"}]})),
        token("a", 0, "Checking"),
        first_reply,
        event(7, "tool_start", json!({"tool_call_id": "t1", "name": "pods_list", "arguments": {}, "attempt": 1})),
        event(
            8,
            "tool_end",
            json!({"tool_call_id": "t1", "status": "ok", "bytes": 2048, "duration_ms": 240, "truncated": true}),
        ),
        event(
            9,
            "approval_requested",
            json!({"approval_id": "p1", "tool_call_id": "t2", "name": "deployment_scale", "arguments": scale,
                "effect": "mutating", "reason": "it scales", "preview": "-  replicas: 2\n+  replicas: 5\n",
                "summary": "shop/cart: replicas 2 → 5", "cluster": "prod-eu", "preview_detail": {"kind": "diff", "lines_omitted": 7}}),
        ),
        event(
            10,
            "approval_resolved",
            json!({"approval_id": "p1", "decision": "approve", "by": "user:anna", "comment": "ok"}),
        ),
        event(
            11,
            "tool_start",
            json!({"tool_call_id": "t2", "name": "deployment_scale", "arguments": scale, "attempt": 2}),
        ),
        event(
            12,
            "input_requested",
            json!({"input_id": "i1", "tool_call_id": "t2", "server": "prod", "message": "Sure?", "url": "https://prod.example/ok",
                "schema": {"properties": {"confirm": {"type": "boolean"}}}}),
        ),
        event(13, "input_resolved", json!({"input_id": "i1", "action": "accept", "by": "user:anna"})),
        event(
            14,
            "tool_end",
            json!({"tool_call_id": "t2", "status": "timeout", "content": "no answer", "duration_ms": 61_500}),
        ),
        event(15, "context_compacted", json!({"tokens_before": 120_000, "tokens_after": 9_500})),
        event(16, "warning", json!({"message": "the budget is almost used up"})),
        event(17, "settings_changed", json!({"settings": {"provider": "demo", "model": "rules"}})),
        event(18, "run_recovered", json!({"superseded": [], "reason": "owner_lost"})),
        reply(19, "b", "The scaling timed out."),
        event(20, "memory_saved", json!({"memories": [{"content": "scaling cart is slow"}]})),
        event(
            21,
            "run_finished",
            json!({"outcome": "limit", "duration_ms": 75_000,
                "usage": {"input_tokens": 12_345, "output_tokens": 678, "cost_usd": 0.0123}}),
        ),
    ];
    let mut output = Vec::new();
    let capabilities = TerminalCapabilities { overwrite: false, colors: false };
    let mut screen = TerminalScreen::new(&mut output, capabilities, None);
    let mut view = TranscriptView::default();
    for frame in &frames {
        screen.apply_updates(view.apply_frame(frame)).unwrap();
    }
    insta::assert_snapshot!(String::from_utf8(output).unwrap(), @r#"
    > scale cart to 5
    · title: Cart
    · recalled: cart runs in shop
    Checking pods.
    Scaling cart.
    → pods_list
    ✓ [1] pods_list · 240 ms · 2.0 KiB · truncated for the model
    ? deployment_scale changes the cluster prod-eu: shop/cart, replicas 2 → 5
      name: cart
      namespace: shop
      replicas: 5
      why it is asked: it scales
    -  replicas: 2
    +  replicas: 5
    · 7 more lines: k8sops approvals show
    · deployment_scale approved by anna: ok
    → deployment_scale name=cart namespace=shop replicas=5 (attempt 2)
    ? prod asks: Sure?
    open https://prod.example/ok if you trust it
      confirm: {"type":"boolean"}
    · answered by anna
    ✗ [2] deployment_scale name=cart namespace=shop replicas=5: timeout · 1 min 1 s
      no answer
    · older turns were summarized: 120.0k tokens reduced to 9.5k
    ✗ warning: the budget is almost used up
    · model: demo/rules
    · interrupted (owner_lost), resuming
    The scaling timed out.
    · remembered: scaling cart is slow
    · stopped at a limit · 1 min 15 s · 12.3k tokens in, 678 out · $0.0123
    "#);
}

#[test]
fn loss_says_what_is_left_and_which_calls_were_sent() {
    let mut view = TranscriptView::default();
    view.record_sent_message("c2", InputSource::Terminal);
    let snapshot = json!({
        "type": "snapshot", "as_of_seq": 6, "settings": {}, "pending_approvals": [], "pending_inputs": [],
        "messages": [{"role": "user", "seq": 3, "content": "hello"}, {"role": "assistant", "seq": 5, "content": "Hi.\nHow are you?"}],
    });
    let truncated = json!({
        "type": "log_truncated", "seq": 2000, "from_seq": 7, "lost": 5,
        "lost_calls": [{"name": "scale", "arguments": {"replicas": 0}}, {"name": "apply", "arguments": null}],
    });
    view.last_seq = 11;
    let gap = json!({"type": "gap", "requested": 11, "oldest_seq": 1, "reason": "log_truncated"});
    let shown = play(&mut view, &[hello(6), gap, snapshot, truncated]);
    assert_eq!(
        shown,
        "the store has lost the newest events of this session\n\
         the session continues after: Hi.\n\
         5 events were stored and are lost; what they showed is void\n\
         this call was sent, and its record is lost: scale {\"replicas\":0}\n\
         this call was sent, and its record is lost: apply\n"
    );
    assert!(!view.is_in_run(), "a lost message is not waited for");
}
