//! The whole client against a scripted service: real HTTP, real WebSockets, a terminal made of channels.

mod service;

use std::{
    io::Write,
    sync::{Arc, Mutex, mpsc as blocking},
};

use tokio::time::{sleep, timeout};

use self::service::{
    Service,
    Step::{Break, Hear, Say},
};
use super::*;

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Output {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A user at a terminal of channels.
struct User {
    asks: blocking::Receiver<Ask>,
    answers: mpsc::Sender<Input>,
    interrupts: mpsc::Sender<()>,
    output: Output,
}

impl User {
    /// Waits until asked; the prompt.
    async fn asked(&self) -> String {
        for _ in 0..500 {
            if let Ok(ask) = self.asks.try_recv() {
                return ask.prompt + &ask.initial;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing was asked; the screen is:\n{}", self.output.text());
    }

    async fn does(&self, input: Input) {
        self.answers.send(input).await.unwrap();
    }

    /// Waits for a prompt and types a line.
    async fn types(&self, line: &str) -> String {
        let prompt = self.asked().await;
        self.does(Input::Line(line.to_owned())).await;
        prompt
    }

    async fn sees(&self, text: &str) {
        for _ in 0..500 {
            if self.output.text().contains(text) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("`{text}` was never seen; the screen is:\n{}", self.output.text());
    }
}

async fn chat(
    service: &Service,
    session: Option<&str>,
    typed: render::Typed,
) -> (User, tokio::task::JoinHandle<std::io::Result<()>>) {
    let (ask, asks) = blocking::channel();
    let (answers, answered) = mpsc::channel(1);
    let (interrupts, interrupted) = mpsc::channel(4);
    let output = Output::default();
    let screen = Screen::new(output.clone(), Look { live: false, colours: false }, None);
    let client = Client::new(&service.url).unwrap();
    let mut chat = Chat::new(client, Inputs::new(ask, answered), screen, typed);
    // This user reads fast.
    chat.reading = Duration::ZERO;
    chat.begin(session, false).await.unwrap();
    let task = tokio::spawn(async move { chat.run(interrupted).await });
    (User { asks, answers, interrupts, output }, task)
}

async fn done(task: tokio::task::JoinHandle<std::io::Result<()>>) {
    timeout(Duration::from_secs(5), task).await.expect("the chat ends").unwrap().unwrap();
}

fn hello(last_seq: u64, is_processing: bool) -> Value {
    json!({"type": "hello", "protocol": 1, "last_seq": last_seq, "oldest_seq": 1, "status": {"is_processing": is_processing}})
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
async fn a_turn_goes_from_the_prompt_to_the_answer_and_back() {
    let service = Service::start(vec![vec![
        Say(hello(1, false)),
        Say(created()),
        Hear("message", accepted),
        Say(json!({"type": "tool_start", "seq": 4, "tool_call_id": "t", "name": "pods_list", "arguments": {"ns": "prod"}, "attempt": 1})),
        Say(json!({"type": "tool_end", "seq": 5, "tool_call_id": "t", "status": "ok", "bytes": 10, "duration_ms": 20})),
        Say(token(0, "All ")),
        Say(token(4, "well")),
        Say(replied(6, "All well.")),
        Say(finished(7, "completed")),
    ]])
    .await;
    let (user, task) = chat(&service, None, render::Typed::Yes).await;
    assert!(service.requests().iter().all(|r| !r.starts_with("POST")), "looking around begins no session");
    assert_eq!(user.types("is all well?").await, "> ");
    assert_eq!(user.types("/quit").await, "> ");
    done(task).await;
    let screen = user.output.text();
    assert!(
        screen.ends_with(
            "/help for help\n→ pods_list {\"ns\":\"prod\"}\n✓ pods_list ok · 20 ms · 10 B\nAll well.\n· 10 ms\n"
        ),
        "{screen}"
    );
    assert_eq!(service.requests()[1..], ["POST /v1/sessions {}", "WS /v1/sessions/s-made/ws?after=0"]);
    assert_eq!(service.commands("message")[0]["content"], "is all well?");
}

#[tokio::test]
async fn a_broken_connection_loses_and_doubles_nothing() {
    let service = Service::start(vec![
        // The message is taken, and its acknowledgement is lost with the connection.
        vec![Say(hello(1, false)), Say(created()), Hear("message", |_| Vec::new()), Break],
        vec![
            Say(hello(3, true)),
            Hear("message", |command| {
                let mut frames = accepted(command);
                frames[0]["duplicate"] = json!(true);
                frames
            }),
            Say(token(0, "All w")),
            Break,
        ],
        vec![Say(hello(3, true)), Say(token(0, "All we")), Say(token(6, "ll, ")), Break],
        vec![Say(hello(5, false)), Say(replied(4, "All well, again.")), Say(finished(5, "completed"))],
    ])
    .await;
    let (user, task) = chat(&service, None, render::Typed::No).await;
    user.types("is all well?").await;
    user.asked().await;
    user.does(Input::End).await;
    done(task).await;
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
async fn ctrl_c_cancels_the_turn_and_not_the_program() {
    let service = Service::start(vec![vec![
        Say(hello(1, false)),
        Say(created()),
        Hear("message", accepted),
        Say(token(0, "It will take")),
        Hear("cancel", acknowledged),
        Say(replied(4, "It will take")),
        Say(finished(5, "cancelled")),
    ]])
    .await;
    let (user, task) = chat(&service, None, render::Typed::Yes).await;
    user.types("count the atoms").await;
    user.sees("It will take").await;
    user.interrupts.send(()).await.unwrap();
    user.sees("· cancelled · 10 ms").await;
    assert_eq!(user.asked().await, "> ");
    user.does(Input::Interrupt).await;
    user.sees("Ctrl-C again").await;
    assert_eq!(user.types("/help").await, "> ", "something else in between: the count begins anew");
    user.asked().await;
    user.does(Input::Interrupt).await;
    user.asked().await;
    user.does(Input::Interrupt).await;
    done(task).await;
}

#[tokio::test]
async fn an_approval_is_asked_inline_and_can_be_edited() {
    let ask = |seq: u64, id: &str| {
        Say(json!({"type": "approval_requested", "seq": seq, "approval_id": id, "tool_call_id": "t", "name": "scale",
            "arguments": {"replicas": 0}, "effect": "mutating", "reason": "it scales"}))
    };
    let resolved = |seq: u64, id: &str, decision: &str| {
        Say(
            json!({"type": "approval_resolved", "seq": seq, "approval_id": id, "decision": decision, "by": "user:anna"}),
        )
    };
    let service = Service::start(vec![vec![
        Say(hello(1, false)),
        Say(created()),
        Hear("message", accepted),
        ask(4, "p1"),
        Hear("deny", acknowledged),
        resolved(5, "p1", "deny"),
        ask(6, "p2"),
        Hear("approve", acknowledged),
        resolved(7, "p2", "approve"),
        Say(finished(8, "completed")),
    ]])
    .await;
    let (user, task) = chat(&service, None, render::Typed::Yes).await;
    user.types("scale it").await;
    assert!(user.types("hm").await.starts_with("scale: run it?"));
    user.sees("y, n or e").await;
    assert!(user.types("n not to zero").await.starts_with("scale: run it?"));
    assert!(user.types("e").await.starts_with("scale: run it?"));
    assert_eq!(user.types("{\"replicas\": 2").await, "arguments: {\"replicas\":0}");
    user.sees("that is not JSON").await;
    user.types("e").await;
    user.types("{\"replicas\": 2}").await;
    assert_eq!(user.types("/quit").await, "> ");
    done(task).await;
    let (deny, approve) = (service.commands("deny"), service.commands("approve"));
    assert_eq!((&deny[0]["approval_id"], &deny[0]["comment"]), (&json!("p1"), &json!("not to zero")));
    assert_eq!((&approve[0]["approval_id"], &approve[0]["arguments"]), (&json!("p2"), &json!({"replicas": 2})));
    assert_eq!((deny.len(), approve.len()), (1, 1));
}

#[tokio::test]
async fn what_was_typed_ahead_or_piped_approves_nothing() {
    let asking = || {
        vec![
            Say(hello(1, false)),
            Say(created()),
            Hear("message", accepted),
            Say(
                json!({"type": "approval_requested", "seq": 4, "approval_id": "p1", "tool_call_id": "t", "name": "scale",
                "arguments": {}, "effect": "mutating", "reason": "it scales"}),
            ),
        ]
    };
    let service = Service::start(vec![asking(), asking()]).await;
    let (user, task) = chat(&service, None, render::Typed::No).await;
    user.types("scale it").await;
    user.types("yes, and then tell me why").await;
    user.sees("y, n or e").await;
    user.asked().await;
    user.does(Input::End).await;
    done(task).await;
    user.sees("scale was not answered; the question stays open").await;
    assert!(service.commands("approve").is_empty());

    let (ask, asks) = blocking::channel();
    let (answers, answered) = mpsc::channel(1);
    let (interrupts, interrupted) = mpsc::channel(4);
    let output = Output::default();
    let screen = Screen::new(output.clone(), Look { live: false, colours: false }, None);
    let mut chat =
        Chat::new(Client::new(&service.url).unwrap(), Inputs::new(ask, answered), screen, render::Typed::Yes);
    chat.reading = Duration::from_hours(1);
    let task = tokio::spawn(async move { chat.run(interrupted).await });
    let user = User { asks, answers, interrupts, output };
    user.types("scale it").await;
    user.types("y").await;
    user.sees("typed before the question could be read").await;
    user.types("/quit").await;
    done(task).await;
    assert!(service.commands("approve").is_empty());
}

#[tokio::test]
async fn an_answer_to_a_question_that_is_over_is_not_sent() {
    let service = Service::start(vec![vec![
        Say(hello(1, false)),
        Say(created()),
        Hear("message", accepted),
        Say(json!({"type": "approval_requested", "seq": 4, "approval_id": "p1", "tool_call_id": "t", "name": "scale",
            "arguments": {}, "effect": "mutating", "reason": "it scales"})),
        Say(json!({"type": "approval_resolved", "seq": 5, "approval_id": "p1", "decision": "deny", "by": "user:bob"})),
        Say(finished(6, "completed")),
    ]])
    .await;
    let (user, task) = chat(&service, None, render::Typed::Yes).await;
    user.types("scale it").await;
    let prompt = user.asked().await;
    user.sees("10 ms").await;
    if prompt.starts_with("scale") {
        user.does(Input::Line("y".to_owned())).await;
        user.sees("answered elsewhere").await;
        user.asked().await;
    }
    user.does(Input::Line("/quit".to_owned())).await;
    done(task).await;
    assert!(service.commands("approve").is_empty() && service.commands("message").len() == 1);
}

#[tokio::test]
async fn sessions_and_models_are_listed_switched_and_changed() {
    let snapshot = json!({"type": "snapshot", "as_of_seq": 9, "settings": {"provider": "demo", "model": "rules"},
        "messages": [{"role": "user", "seq": 2, "content": "from before"}], "pending_approvals": [], "open_run": null});
    let service = Service::start(vec![vec![Say(hello(9, false)), Say(snapshot)]]).await;
    let (user, task) = chat(&service, None, render::Typed::Yes).await;
    for line in
        ["/sessions", "/switch 9", "/switch 1", "/model", "/model gpt", "/title New name", "/nonsense", "/delete"]
    {
        assert_eq!(user.types(line).await, "> ", "{line}");
    }
    assert_eq!(user.types("y").await, "delete \"Payments\" for good? [y/n] ");
    user.asked().await;
    user.does(Input::End).await;
    done(task).await;
    let screen = user.output.text();
    for seen in [
        "  1  Payments",
        "✗ there is no such session",
        "> from before",
        "* demo/rules",
        "OpenAI  (not configured)",
        "✗ there is no /nonsense",
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
async fn a_model_that_is_not_there_is_refused_before_it_begins_a_session() {
    let script = || vec![Say(hello(1, false)), Say(created())];
    let service = Service::start(vec![script()]).await;
    let (user, task) = chat(&service, None, render::Typed::Yes).await;
    for (line, said) in [
        ("/model nope", "✗ demo has no model nope; it has: rules"),
        ("/model openai/nope", "✗ openai has no model nope; it has: gpt"),
        ("/model free/anything", "· model of the next session: free/anything"),
        ("/model gpt", "· model of the next session: openai/gpt"),
        ("/model demo/nope", "✗ demo has no model nope"),
    ] {
        assert_eq!(user.types(line).await, "> ", "{line}");
        user.sees(said).await;
    }
    user.types("/new From here").await;
    user.types("/quit").await;
    done(task).await;
    let begun: Vec<String> = service.requests().into_iter().filter(|r| r.starts_with("POST")).collect();
    assert_eq!(begun, [r#"POST /v1/sessions {"model":"gpt","provider":"openai","title":"From here"}"#]);
}

#[tokio::test]
async fn lines_from_a_pipe_are_turns_one_after_another() {
    let second = |command: &Value| {
        vec![
            json!({"type": "ack", "command_id": command["command_id"], "seq": 5}),
            json!({"type": "user_message", "seq": 6, "message_id": "u2", "content": command["content"], "command_id": command["command_id"]}),
            json!({"type": "run_started", "seq": 7}),
        ]
    };
    let service = Service::start(vec![vec![
        Say(hello(1, false)),
        Say(created()),
        Hear("message", accepted),
        Say(replied(4, "one")),
        Say(finished(5, "completed")),
        Hear("message", second),
        Say(json!({"type": "assistant_message", "seq": 8, "message_id": "b", "content": "two", "stop_reason": "end_turn"})),
        Say(finished(9, "completed")),
    ]])
    .await;
    let (user, task) = chat(&service, None, render::Typed::No).await;
    user.types("first").await;
    user.types("second").await;
    user.asked().await;
    user.does(Input::End).await;
    done(task).await;
    let screen = user.output.text();
    assert!(screen.ends_with("> first\none\n· 10 ms\n> second\ntwo\n· 10 ms\n"), "{screen}");
}

#[tokio::test]
async fn a_session_that_is_gone_is_said_and_the_chat_goes_on() {
    let service = Service::start(vec![vec![Say(hello(1, false)), Say(created()), Break]]).await;
    let (user, task) = chat(&service, Some("new"), render::Typed::Yes).await;
    user.asked().await;
    // The scripts are used up: what comes next is refused as the real service refuses a session that it does not have.
    user.sees("this session is over: there is no such session").await;
    user.does(Input::Line("/sessions".to_owned())).await;
    user.sees("Payments").await;
    user.asked().await;
    user.does(Input::Line("/quit".to_owned())).await;
    done(task).await;
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_said_in_one_line() {
    let (ask, _asks) = blocking::channel();
    let (_answers, answered) = mpsc::channel(1);
    let screen = Screen::new(Output::default(), Look { live: false, colours: false }, None);
    let client = Client::new("http://127.0.0.1:9").unwrap();
    let mut chat = Chat::new(client, Inputs::new(ask, answered), screen, render::Typed::No);
    let error = chat.begin(None, false).await.unwrap_err().to_string();
    assert!(
        error.starts_with("http://127.0.0.1:9 does not answer (") && error.ends_with("is `k8sops serve` running?"),
        "{error}"
    );
}
