//! The whole client against a scripted service: real HTTP, real WebSockets, a terminal made of channels.

mod scripted_service;

use parking_lot::Mutex;
use std::{io::Write, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use self::scripted_service::{
    ScriptStep::{Break, Expect, Send},
    ScriptedService,
};
use super::{
    line_source::{LinePrompt, LineSource, TerminalInput},
    terminal_chat::{InitialSession, TerminalChat},
};
use crate::cli::{
    service::ApiClient,
    terminal::{InputSource, TerminalCapabilities, TerminalScreen},
};

/// No step of these tests takes this long unless it is broken.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// An output that tests can read, and wait for.
#[derive(Clone)]
struct CapturedOutput {
    bytes: Arc<Mutex<Vec<u8>>>,
    written: watch::Sender<()>,
}

impl Default for CapturedOutput {
    fn default() -> Self {
        Self { bytes: Arc::default(), written: watch::Sender::new(()) }
    }
}

impl Write for CapturedOutput {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.lock().extend(bytes);
        self.written.send_replace(());
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl CapturedOutput {
    fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().clone()).unwrap()
    }
}

/// A user whose terminal is made of channels.
struct TerminalUser {
    prompts: mpsc::Receiver<LinePrompt>,
    inputs: mpsc::Sender<TerminalInput>,
    interrupts: mpsc::Sender<()>,
    output: CapturedOutput,
}

impl TerminalUser {
    /// Waits for a prompt and returns its text.
    async fn wait_for_prompt(&mut self) -> String {
        match timeout(STEP_TIMEOUT, self.prompts.recv()).await {
            Ok(Some(LinePrompt { prompt, initial, .. })) => prompt + &initial,
            _ => panic!("no prompt was opened; the screen is:\n{}", self.output.text()),
        }
    }

    async fn send_input(&self, input: TerminalInput) {
        self.inputs.send(input).await.unwrap();
    }

    /// Waits for a prompt, enters a line, and returns the prompt.
    async fn enter_line(&mut self, line: &str) -> String {
        let prompt = self.wait_for_prompt().await;
        self.send_input(TerminalInput::Line(line.to_owned())).await;
        prompt
    }

    /// Waits until the screen contains a text.
    async fn wait_for_text(&self, text: &str) {
        let mut written = self.output.written.subscribe();
        let seen = async {
            while !self.output.text().contains(text) {
                written.changed().await.unwrap();
            }
        };
        let in_time = timeout(STEP_TIMEOUT, seen).await.is_ok();
        assert!(in_time, "`{text}` was never shown; the screen is:\n{}", self.output.text());
    }
}

type RunningChat = JoinHandle<std::io::Result<()>>;

/// Creates a chat whose terminal is made of channels, and the user at that terminal.
fn new_chat(url: &str, source: InputSource) -> (TerminalUser, TerminalChat<CapturedOutput>, mpsc::Receiver<()>) {
    let (prompt_sender, prompts) = mpsc::channel(1);
    let (inputs, input_receiver) = mpsc::channel(1);
    let (interrupts, interrupt_receiver) = mpsc::channel(4);
    let output = CapturedOutput::default();
    let capabilities = TerminalCapabilities { overwrite: false, colors: false };
    let screen = TerminalScreen::new(output.clone(), capabilities, None);
    let lines = LineSource::new(prompt_sender, input_receiver);
    let chat = TerminalChat::new(ApiClient::new(url).unwrap(), lines, screen, source);
    (TerminalUser { prompts, inputs, interrupts, output }, chat, interrupt_receiver)
}

async fn start_chat(
    service: &ScriptedService,
    session: InitialSession,
    source: InputSource,
) -> (TerminalUser, RunningChat) {
    let (user, mut chat, interrupts) = new_chat(&service.url, source);
    chat.min_reading_time = Duration::ZERO;
    chat.start(session).await.unwrap();
    let task = tokio::spawn(async move { chat.run(interrupts).await });
    (user, task)
}

async fn chat_ends(task: RunningChat) {
    timeout(STEP_TIMEOUT, task).await.expect("the chat ends").unwrap().unwrap();
}

fn hello(last_seq: u64) -> Value {
    hello_with_status(last_seq, &json!({"is_processing": false}))
}

fn hello_in_run(last_seq: u64) -> Value {
    hello_with_status(last_seq, &json!({"is_processing": true}))
}

fn hello_with_status(last_seq: u64, status: &Value) -> Value {
    json!({"type": "hello", "protocol": 1, "last_seq": last_seq, "oldest_seq": 1, "status": status})
}

fn created() -> Value {
    json!({"type": "session_created", "seq": 1, "settings": {"provider": "demo", "model": "rules"}})
}

fn accepted(command: &Value) -> Vec<Value> {
    vec![
        json!({"type": "ack", "command_id": command["command_id"], "seq": 1}),
        json!({"type": "user_message", "seq": 2, "message_id": "u", "content": command["content"], "command_id": command["command_id"]}),
        json!({"type": "run_started", "seq": 3, "provider": "demo", "model": "rules", "attempt": 1}),
    ]
}

fn acknowledged(command: &Value) -> Vec<Value> {
    vec![json!({"type": "ack", "command_id": command["command_id"], "seq": 3})]
}

fn finished(seq: u64, outcome: &str) -> Value {
    json!({"type": "run_finished", "seq": seq, "outcome": outcome, "duration_ms": 10, "usage": {}})
}

fn replied(seq: u64, text: &str) -> Value {
    json!({"type": "assistant_message", "seq": seq, "message_id": "a", "content": text, "tool_calls": [], "stop_reason": "end_turn"})
}

fn token(offset: usize, text: &str) -> Value {
    json!({"type": "token", "message_id": "a", "offset": offset, "content": text})
}

#[tokio::test]
async fn turn_shows_tool_calls_and_answer() {
    let service = ScriptedService::start(vec![vec![
        Send(hello(1)),
        Send(created()),
        Expect("message", accepted),
        Send(json!({"type": "tool_start", "seq": 4, "tool_call_id": "t", "name": "pods_list", "arguments": {"ns": "prod"}, "attempt": 1})),
        Send(json!({"type": "tool_end", "seq": 5, "tool_call_id": "t", "status": "ok", "bytes": 10, "duration_ms": 20})),
        Send(token(0, "All ")),
        Send(token(4, "well")),
        Send(replied(6, "All well.")),
        Send(finished(7, "completed")),
    ]])
    .await;
    let (mut user, task) = start_chat(&service, InitialSession::New, InputSource::Terminal).await;
    assert!(service.requests().iter().all(|r| !r.starts_with("POST")), "the start creates no session");
    assert_eq!(user.enter_line("is all well?").await, "> ");
    assert_eq!(user.enter_line("/quit").await, "> ");
    chat_ends(task).await;
    let screen = user.output.text();
    assert!(
        screen.ends_with(
            "/help for help\n→ pods_list ns=prod\n✓ [1] pods_list ns=prod · 20 ms · 10 B\nAll well.\n· 10 ms\n"
        ),
        "{screen}"
    );
    assert_eq!(service.requests()[1..], ["POST /v1/sessions {}", "WS /v1/sessions/s-made/ws?after=0"]);
    assert_eq!(service.commands("message")[0]["content"], "is all well?");
}

#[tokio::test]
async fn broken_connection_loses_and_repeats_nothing() {
    let service = ScriptedService::start(vec![
        // The message arrives, and its acknowledgement is lost with the connection.
        vec![Send(hello(1)), Send(created()), Expect("message", |_| Vec::new()), Break],
        vec![
            Send(hello_in_run(3)),
            Expect("message", |command| {
                let mut frames = accepted(command);
                frames[0]["duplicate"] = json!(true);
                frames
            }),
            Send(token(0, "All w")),
            Break,
        ],
        vec![Send(hello_in_run(3)), Send(token(0, "All we")), Send(token(6, "ll, ")), Break],
        vec![Send(hello(5)), Send(replied(4, "All well, again.")), Send(finished(5, "completed"))],
    ])
    .await;
    let (mut user, task) = start_chat(&service, InitialSession::New, InputSource::Pipe).await;
    user.enter_line("is all well?").await;
    user.wait_for_prompt().await;
    user.send_input(TerminalInput::End).await;
    chat_ends(task).await;
    let screen = user.output.text();
    let shown: Vec<&str> = screen.lines().skip(1).filter(|l| !l.contains("connect")).collect();
    assert_eq!(shown, ["> is all well?", "All w", "ell, ", "again.", "· 10 ms"], "{screen}");
    let messages = service.commands("message");
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0]["command_id"], messages[1]["command_id"], "the same command, not a second one");
    let sockets: Vec<String> = service.requests().into_iter().filter(|r| r.starts_with("WS")).collect();
    let after = |n: u64| format!("WS /v1/sessions/s-made/ws?after={n}");
    assert_eq!(sockets, [after(0), after(1), after(3), after(3)]);
}

#[tokio::test]
async fn ctrl_c_cancels_the_run_not_the_program() {
    let service = ScriptedService::start(vec![vec![
        Send(hello(1)),
        Send(created()),
        Expect("message", accepted),
        Send(token(0, "It will take")),
        Expect("cancel", acknowledged),
        Send(replied(4, "It will take")),
        Send(finished(5, "cancelled")),
    ]])
    .await;
    let (mut user, task) = start_chat(&service, InitialSession::New, InputSource::Terminal).await;
    user.enter_line("count the atoms").await;
    user.wait_for_text("It will take").await;
    user.interrupts.send(()).await.unwrap();
    user.wait_for_text("· cancelled · 10 ms").await;
    assert_eq!(user.wait_for_prompt().await, "> ");
    user.send_input(TerminalInput::Interrupt).await;
    user.wait_for_text("Ctrl-C again").await;
    assert_eq!(user.enter_line("/help").await, "> ", "another input resets the count");
    user.wait_for_prompt().await;
    user.send_input(TerminalInput::Interrupt).await;
    user.wait_for_prompt().await;
    user.send_input(TerminalInput::Interrupt).await;
    chat_ends(task).await;
}

#[tokio::test]
async fn approval_arguments_can_be_edited() {
    let ask = |seq: u64, id: &str| {
        Send(json!({"type": "approval_requested", "seq": seq, "approval_id": id, "tool_call_id": "t", "name": "scale",
            "arguments": {"replicas": 0}, "effect": "mutating", "reason": "it scales"}))
    };
    let resolved = |seq: u64, id: &str, decision: &str| {
        Send(
            json!({"type": "approval_resolved", "seq": seq, "approval_id": id, "decision": decision, "by": "user:anna"}),
        )
    };
    let service = ScriptedService::start(vec![vec![
        Send(hello(1)),
        Send(created()),
        Expect("message", accepted),
        ask(4, "p1"),
        Expect("deny", acknowledged),
        resolved(5, "p1", "deny"),
        ask(6, "p2"),
        Expect("approve", acknowledged),
        resolved(7, "p2", "approve"),
        Send(finished(8, "completed")),
    ]])
    .await;
    let (mut user, task) = start_chat(&service, InitialSession::New, InputSource::Terminal).await;
    user.enter_line("scale it").await;
    assert!(user.enter_line("hm").await.starts_with("scale: run it?"));
    user.wait_for_text("y, n or e").await;
    assert!(user.enter_line("n not to zero").await.starts_with("scale: run it?"));
    assert!(user.enter_line("e").await.starts_with("scale: run it?"));
    assert_eq!(user.enter_line("{\"replicas\": 2").await, "arguments: {\"replicas\":0}");
    user.wait_for_text("invalid JSON").await;
    user.enter_line("e").await;
    user.enter_line("{\"replicas\": 2}").await;
    assert_eq!(user.enter_line("/quit").await, "> ");
    chat_ends(task).await;
    let deny = service.commands("deny");
    let approve = service.commands("approve");
    assert_eq!((&deny[0]["approval_id"], &deny[0]["comment"]), (&json!("p1"), &json!("not to zero")));
    assert_eq!((&approve[0]["approval_id"], &approve[0]["arguments"]), (&json!("p2"), &json!({"replicas": 2})));
    assert_eq!((deny.len(), approve.len()), (1, 1));
}

#[tokio::test]
async fn early_or_piped_lines_approve_nothing() {
    let asking = || {
        vec![
            Send(hello(1)),
            Send(created()),
            Expect("message", accepted),
            Send(
                json!({"type": "approval_requested", "seq": 4, "approval_id": "p1", "tool_call_id": "t", "name": "scale",
                "arguments": {}, "effect": "mutating", "reason": "it scales"}),
            ),
        ]
    };
    let service = ScriptedService::start(vec![asking(), asking()]).await;
    let (mut user, task) = start_chat(&service, InitialSession::New, InputSource::Pipe).await;
    user.enter_line("scale it").await;
    user.enter_line("yes, and then tell me why").await;
    user.wait_for_text("y, n or e").await;
    user.wait_for_prompt().await;
    user.send_input(TerminalInput::End).await;
    chat_ends(task).await;
    user.wait_for_text("scale was not answered; the question stays open").await;
    assert!(service.commands("approve").is_empty());

    let (mut user, mut chat, interrupts) = new_chat(&service.url, InputSource::Terminal);
    chat.min_reading_time = Duration::from_hours(1);
    let task = tokio::spawn(async move { chat.run(interrupts).await });
    user.enter_line("scale it").await;
    user.enter_line("y").await;
    user.wait_for_text("typed before the question could be read").await;
    user.enter_line("/quit").await;
    chat_ends(task).await;
    assert!(service.commands("approve").is_empty());
}

#[tokio::test]
async fn answer_to_a_closed_question_is_not_sent() {
    let service = ScriptedService::start(vec![vec![
        Send(hello(1)),
        Send(created()),
        Expect("message", accepted),
        Send(json!({"type": "approval_requested", "seq": 4, "approval_id": "p1", "tool_call_id": "t", "name": "scale",
            "arguments": {}, "effect": "mutating", "reason": "it scales"})),
        Send(json!({"type": "approval_resolved", "seq": 5, "approval_id": "p1", "decision": "deny", "by": "user:bob"})),
        Send(finished(6, "completed")),
    ]])
    .await;
    let (mut user, task) = start_chat(&service, InitialSession::New, InputSource::Terminal).await;
    user.enter_line("scale it").await;
    let prompt = user.wait_for_prompt().await;
    user.wait_for_text("10 ms").await;
    if prompt.starts_with("scale") {
        user.send_input(TerminalInput::Line("y".to_owned())).await;
        user.wait_for_text("answered elsewhere").await;
        user.wait_for_prompt().await;
    }
    user.send_input(TerminalInput::Line("/quit".to_owned())).await;
    chat_ends(task).await;
    assert!(service.commands("approve").is_empty() && service.commands("message").len() == 1);
}

#[tokio::test]
async fn session_and_model_commands_call_the_api() {
    let snapshot = json!({"type": "snapshot", "as_of_seq": 9, "settings": {"provider": "demo", "model": "rules"},
        "messages": [{"role": "user", "seq": 2, "content": "from before"}], "pending_approvals": [], "open_run": null});
    let service = ScriptedService::start(vec![vec![Send(hello(9)), Send(snapshot)]]).await;
    let (mut user, task) = start_chat(&service, InitialSession::New, InputSource::Terminal).await;
    for line in
        ["/sessions", "/switch 9", "/switch 1", "/model", "/model gpt", "/title New name", "/nonsense", "/delete"]
    {
        assert_eq!(user.enter_line(line).await, "> ", "{line}");
    }
    assert_eq!(user.enter_line("y").await, "permanently delete \"Payments\"? [y/n] ");
    user.wait_for_prompt().await;
    user.send_input(TerminalInput::End).await;
    chat_ends(task).await;
    let screen = user.output.text();
    for seen in [
        "  1  s-new  Payments",
        "✗ there is no session whose id starts or ends with `9`",
        "> from before",
        "* demo/rules",
        "OpenAI  (not configured)",
        "✗ unknown command /nonsense",
        "· deleted",
    ] {
        assert!(screen.contains(seen), "{seen}: {screen}");
    }
    let requests = service.requests();
    for made in [
        "WS /v1/sessions/s-new/ws?after=0&snapshot=true",
        "PATCH /v1/sessions/s-new/settings {\"model\":\"gpt\",\"provider\":\"openai\"}",
        "PATCH /v1/sessions/s-new {\"title\":\"New name\"}",
        "DELETE /v1/sessions/s-new",
    ] {
        assert!(requests.iter().any(|r| r == made), "{made}: {requests:?}");
    }
}

#[tokio::test]
async fn unknown_model_is_rejected_before_a_session_exists() {
    let script = || vec![Send(hello(1)), Send(created())];
    let service = ScriptedService::start(vec![script()]).await;
    let (mut user, task) = start_chat(&service, InitialSession::New, InputSource::Terminal).await;
    for (line, said) in [
        ("/model nope", "✗ demo has no model nope; available: rules"),
        ("/model openai/nope", "✗ openai has no model nope; available: gpt"),
        ("/model free/anything", "· model of the next session: free/anything"),
        ("/model gpt", "· model of the next session: openai/gpt"),
        ("/model demo/nope", "✗ demo has no model nope"),
    ] {
        assert_eq!(user.enter_line(line).await, "> ", "{line}");
        user.wait_for_text(said).await;
    }
    user.enter_line("/new From here").await;
    user.enter_line("/quit").await;
    chat_ends(task).await;
    let begun: Vec<String> = service.requests().into_iter().filter(|r| r.starts_with("POST")).collect();
    assert_eq!(begun, [r#"POST /v1/sessions {"model":"gpt","provider":"openai","title":"From here"}"#]);
}

#[tokio::test]
async fn piped_lines_are_separate_turns() {
    let second = |command: &Value| {
        vec![
            json!({"type": "ack", "command_id": command["command_id"], "seq": 5}),
            json!({"type": "user_message", "seq": 6, "message_id": "u2", "content": command["content"], "command_id": command["command_id"]}),
            json!({"type": "run_started", "seq": 7}),
        ]
    };
    let service = ScriptedService::start(vec![vec![
        Send(hello(1)),
        Send(created()),
        Expect("message", accepted),
        Send(replied(4, "one")),
        Send(finished(5, "completed")),
        Expect("message", second),
        Send(json!({"type": "assistant_message", "seq": 8, "message_id": "b", "content": "two", "stop_reason": "end_turn"})),
        Send(finished(9, "completed")),
    ]])
    .await;
    let (mut user, task) = start_chat(&service, InitialSession::New, InputSource::Pipe).await;
    user.enter_line("first").await;
    user.enter_line("second").await;
    user.wait_for_prompt().await;
    user.send_input(TerminalInput::End).await;
    chat_ends(task).await;
    let screen = user.output.text();
    assert!(screen.ends_with("> first\none\n· 10 ms\n> second\ntwo\n· 10 ms\n"), "{screen}");
}

#[tokio::test]
async fn chat_continues_after_its_session_ends() {
    let service = ScriptedService::start(vec![vec![Send(hello(1)), Send(created()), Break]]).await;
    let (mut user, task) = start_chat(&service, InitialSession::Given("new".to_owned()), InputSource::Terminal).await;
    user.wait_for_prompt().await;
    // Without another script the service rejects the WebSocket as the real service rejects an unknown session.
    user.wait_for_text("session ended: there is no such session").await;
    user.send_input(TerminalInput::Line("/sessions".to_owned())).await;
    user.wait_for_text("Payments").await;
    user.wait_for_prompt().await;
    user.send_input(TerminalInput::Line("/quit".to_owned())).await;
    chat_ends(task).await;
}

#[tokio::test]
async fn unreachable_service_is_one_line() {
    let (_user, mut chat, _interrupts) = new_chat("http://127.0.0.1:9", InputSource::Pipe);
    let error = chat.start(InitialSession::New).await.unwrap_err().to_string();
    assert!(
        error.starts_with("http://127.0.0.1:9 does not answer (") && error.ends_with("is `k8sops serve` running?"),
        "{error}"
    );
}
