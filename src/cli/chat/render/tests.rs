//! Sequences of frames as a service sends them, and what they come to on the screen.

use serde_json::json;

use super::*;

/// Plays frames to a view; what is on the screen in the end, tones left out.
fn play(view: &mut View, frames: &[Value]) -> String {
    let mut screen = String::new();
    for frame in frames {
        for op in view.frame(frame) {
            match op {
                Op::Text(text) => screen += &text,
                Op::Line(_, line) => {
                    if !screen.is_empty() && !screen.ends_with('\n') {
                        screen.push('\n');
                    }
                    screen += &line;
                    screen.push('\n');
                }
                Op::Activity(_) => {}
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

fn event(seq: u64, kind: &str, fields: Value) -> Value {
    let mut event = fields;
    event["seq"] = json!(seq);
    event["type"] = json!(kind);
    event
}

/// A run as far as its first words.
fn begun(view: &mut View) -> String {
    view.sent("c1", Typed::Yes);
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
fn text_streams_and_the_last_word_adds_only_what_is_missing() {
    let mut view = View::default();
    assert!(view.busy(), "not connected");
    assert_eq!(begun(&mut view), "It is dö");
    assert!(view.busy() && view.in_run());
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
    assert!(!view.busy());
    assert_eq!(view.model(), Some(("p", "m")));
}

#[test]
fn after_a_reconnect_nothing_is_lost_and_nothing_doubled() {
    let mut view = View::default();
    assert_eq!(begun(&mut view), "It is dö");
    view.lost();
    assert!(view.busy());
    // The preview begins with what there was so far: less, as much, or more than the old connection had shown.
    let again = play(&mut view, &[hello(3), token("a", 0, "It "), token("a", 3, "is döwn"), token("a", 11, " again")]);
    assert_eq!(again, "wn again");
    let replayed = play(&mut view, &[event(3, "run_started", json!({})), reply(4, "a", "It is döwn again")]);
    assert_eq!(replayed, "\n", "an event that was seen is skipped, the message is whole");
    view.lost();
    let late =
        play(&mut view, &[hello(5), token("a", 0, "It is"), event(5, "run_finished", json!({"outcome": "completed"}))]);
    assert_eq!(late, "\n", "a preview of a message that is over is not shown");
}

#[test]
fn a_hole_in_the_preview_is_filled_by_the_message() {
    let mut view = View::default();
    begun(&mut view);
    assert_eq!(play(&mut view, &[token("a", 90, "lost"), reply(4, "a", "It is döwn, lost")]), "wn, lost\n");
}

#[test]
fn a_recovered_run_says_that_the_preview_is_void() {
    let mut view = View::default();
    begun(&mut view);
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
        "\ninterrupted (owner_lost), going on; the unfinished text above is void\nIt is fine\n"
            .trim_start_matches('\n')
    );
}

#[test]
fn a_text_that_begins_anew_and_differs_is_shown_again() {
    let mut view = View::default();
    begun(&mut view);
    let anew = play(&mut view, &[token("a", 0, "No, "), token("a", 4, "it works")]);
    assert_eq!(anew, "the text above is void, this is how it reads now:\nNo, it works");
}

#[test]
fn tools_are_shown_as_they_happen() {
    let mut view = View::default();
    view.frame(&hello(0));
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
    assert_eq!(shown, "pods_list {\"namespace\":\"prod\"}\npods_log {\"namespace\":\"prod\"}\n");
    assert_eq!(view.activity.as_deref(), Some("2 tools: pods_list, pods_log"));
    let ended = play(
        &mut view,
        &[
            event(
                4,
                "tool_end",
                json!({"tool_call_id": "t1", "status": "ok", "content": "x", "truncated": true, "bytes": 2048, "duration_ms": 240}),
            ),
            json!({"type": "tool_progress", "tool_call_id": "t2", "progress": 2.0, "total": 5.0}),
        ],
    );
    assert_eq!(ended, "pods_list ok · 240 ms · 2.0 KiB · cut for the model\n");
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
        "pods_log error · 5 ms\n  no such pod\u{fffd}[2J\n  l2\n  l3\npods_delete outcome not known: it may have taken effect\n"
    );
}

#[test]
fn an_approval_shows_its_arguments_in_full_and_waits() {
    let mut view = View::default();
    begun(&mut view);
    let long = "x".repeat(500);
    let asked = event(
        4,
        "approval_requested",
        json!({"approval_id": "p1", "tool_call_id": "t", "name": "scale", "arguments": {"why": long}, "effect": "mutating", "reason": "it scales", "expires_at": "2026-11-24T10:00:00.000Z"}),
    );
    let shown = play(&mut view, &[reply(5, "a", "It is dö")]);
    assert_eq!(shown, "\n");
    let shown = play(&mut view, &[event(6, "approval_requested", asked)]);
    assert!(shown.starts_with("scale wants to run and is mutating (it scales)\n") && shown.contains(&long));
    assert_eq!(view.approval().map(|a| a.id.as_str()), Some("p1"));
    view.answered("p1", "c9");
    assert_eq!(view.approval(), None, "answered here, not yet resolved");
    play(&mut view, &[json!({"type": "error", "command_id": "c9", "code": "invalid_request", "message": "no"})]);
    assert!(view.approval().is_some(), "refused: asked again");
    let resolved = event(
        7,
        "approval_resolved",
        json!({"approval_id": "p1", "decision": "approve", "arguments": {"a": 1}, "by": "user:anna", "comment": "ok then"}),
    );
    assert_eq!(
        play(&mut view, &[resolved]),
        "scale approved by user:anna, with changed arguments {\"a\":1}: ok then\n"
    );
    assert_eq!(view.approval(), None);
}

#[test]
fn an_approval_goes_with_its_call() {
    let mut view = View::default();
    begun(&mut view);
    let asked = |seq, approval: &str, call: &str| {
        let fields = json!({"approval_id": approval, "tool_call_id": call, "name": "scale", "arguments": {}});
        event(seq, "approval_requested", fields)
    };
    let ended = |seq, call: &str| {
        let fields = json!({"tool_call_id": call, "status": "cancelled", "content": "", "duration_ms": 0});
        event(seq, "tool_end", fields)
    };
    play(&mut view, &[asked(4, "p1", "t1"), asked(5, "p2", "t2")]);
    view.answered("p1", "c9");
    play(&mut view, &[ended(6, "t1")]);
    assert_eq!(view.pending("p1"), None);
    // That the answer came too late does not bring the question back.
    play(&mut view, &[json!({"type": "error", "command_id": "c9", "code": "approval_closed", "message": "too late"})]);
    assert_eq!(view.approval().map(|a| a.id.as_str()), Some("p2"), "another call's stands");
    play(&mut view, &[ended(7, "t2")]);
    assert_eq!(view.approval(), None);
    assert!(view.in_run(), "the run goes on");
}

#[test]
fn two_runs_follow_each_other_and_unknown_frames_are_skipped() {
    let mut view = View::default();
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
    assert!(!view.busy());
}

#[test]
fn a_cancelled_and_a_failed_run_say_so() {
    let mut view = View::default();
    begun(&mut view);
    let mut cut = reply(4, "a", "It is dö");
    cut["stop_reason"] = json!("cancelled");
    let shown = play(&mut view, &[cut, event(5, "run_finished", json!({"outcome": "cancelled", "duration_ms": 10}))]);
    assert_eq!(shown, "\ncancelled here\ncancelled · 10 ms\n");
    play(&mut view, &[event(6, "run_started", json!({})), token("z", 0, "half")]);
    let failed = event(7, "run_failed", json!({"code": "rate_limited", "message": "slow down", "retryable": true}));
    assert_eq!(
        play(&mut view, &[failed]),
        "the text above was not finished\nrate_limited: slow down (the same message may succeed later)\n"
    );
    assert!(!view.busy());
}

#[test]
fn a_refused_message_gives_the_turn_back() {
    let mut view = View::default();
    view.frame(&hello(0));
    view.sent("c1", Typed::No);
    assert!(view.busy());
    let refusal = json!({"type": "error", "command_id": "c1", "code": "message_too_long", "message": "too long"});
    assert_eq!(play(&mut view, &[refusal]), "too long\n");
    assert!(!view.busy());
}

#[test]
fn a_snapshot_shows_the_newest_messages_and_what_is_going_on() {
    let mut view = View::default();
    let mut messages: Vec<Value> =
        (1..=30).map(|seq| json!({"role": "user", "seq": seq, "content": format!("m{seq}")})).collect();
    messages.push(json!({"role": "assistant", "seq": 31, "content": "I look", "tool_calls": [{"id": "t1", "name": "get"}, {"id": "t2", "name": "scale"}, {"id": "t3", "name": "log"}]}));
    messages
        .push(json!({"role": "tool", "seq": 32, "tool_call_id": "t1", "name": "get", "status": "ok", "content": "x"}));
    let snapshot = json!({"type": "snapshot", "as_of_seq": 40, "messages": messages, "settings": {"provider": "p", "model": "m"},
        "open_run": "r", "pending_approvals": [{"approval_id": "p1", "tool_call_id": "t2", "name": "scale", "arguments": {}, "effect": "mutating", "reason": "x"}]});
    let mut greeting = hello(40);
    greeting["status"]["is_processing"] = json!(true);
    let shown = play(&mut view, &[greeting, snapshot.clone()]);
    assert!(shown.starts_with("… 20 older messages\n> m21\n"), "{shown}");
    assert!(shown.contains("I look\nget ok\nscale wants to run"), "{shown}");
    assert!(view.busy() && view.approval().is_some());
    assert_eq!(view.running.keys().collect::<Vec<_>>(), ["t3"]);
    // After a gap on a later connection only what is new is shown.
    let mut later = snapshot;
    later["as_of_seq"] = json!(50);
    later["pending_approvals"] = json!([]);
    later["open_run"] = Value::Null;
    later["messages"].as_array_mut().unwrap().push(json!({"role": "assistant", "seq": 45, "content": "done"}));
    view.lost();
    let shown = play(&mut view, &[hello(50), json!({"type": "gap", "requested": 40, "oldest_seq": 44}), later]);
    assert_eq!(shown, "older events of this session are no longer kept\ndone\n");
    assert!(!view.busy() && view.approval().is_none());
}

#[test]
fn the_spinner_says_what_is_going_on() {
    let mut view = View::default();
    let said = |view: &mut View, frame: Value| {
        view.frame(&frame);
        view.activity.clone()
    };
    view.sent("c", Typed::Yes);
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
fn a_question_of_a_server_is_shown_as_its_own_and_waits() {
    let mut view = View::default();
    begun(&mut view);
    let asked = json!({"input_id": "i1", "tool_call_id": "t", "server": "prod", "message": "Delete 3 pods?\u{1b}[2J",
        "schema": {"type": "object", "properties": {"confirm": {"type": "boolean", "default": false}}}});
    let shown = play(&mut view, &[event(4, "input_requested", asked)]);
    assert!(shown.starts_with("prod asks: Delete 3 pods?") && !shown.contains('\u{1b}'), "{shown}");
    let question = view.approval().unwrap();
    assert_eq!((question.about, question.id.as_str()), (About::Input, "i1"));
    assert_eq!(question.arguments, json!({"confirm": false}));
    let shown =
        play(&mut view, &[event(5, "input_resolved", json!({"input_id": "i1", "action": "decline", "by": "user:a"}))]);
    assert_eq!((shown.as_str(), view.approval()), ("declined by user:a\n", None));
}
