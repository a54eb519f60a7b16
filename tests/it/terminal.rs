//! `k8sops chat` and `k8sops ask` in a terminal of their own.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use k8sops_testing::eventually;
use nix::pty::{OpenptyResult, Winsize, openpty};
use parking_lot::Mutex;

use crate::demo::start_demo;

/// A program in a terminal of 80 columns. It is killed when this is dropped.
struct TerminalProgram {
    child: Child,
    keyboard: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Drop for TerminalProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl TerminalProgram {
    fn start(arguments: &[&str], home: &Path, env: &[(&str, &str)]) -> Self {
        let size = Winsize { ws_row: 40, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        let input = || Stdio::from(slave.try_clone().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_k8sops"));
        command.args(arguments).env_clear().env("HOME", home).env("TERM", "xterm-256color").env("TMPDIR", home);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs(env.iter().copied());
        let child = command.stdin(input()).stdout(input()).stderr(input()).spawn().unwrap();
        drop(command);
        drop(slave);
        let keyboard = File::from(master);
        let mut screen = keyboard.try_clone().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let sink = shown.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut buffer) {
                sink.lock().extend_from_slice(&buffer[..read]);
            }
        });
        Self { child, keyboard, shown }
    }

    /// Returns what was shown, without styles.
    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.shown.lock()).into_owned();
        without_escapes(&text)
    }

    fn enter(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\r").as_bytes()).unwrap();
    }

    /// Waits for words, wherever the width of the terminal breaks them into lines.
    async fn wait_for(&self, words: &str) {
        let joined = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let shows = async || joined(&self.text()).contains(&joined(words));
        eventually(&format!("the terminal shows {words}"), shows).await;
    }
}

/// Removes escape sequences of colors and of the cursor.
fn without_escapes(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            plain.push(c);
            continue;
        }
        // `ESC [ … letter`
        if chars.next() == Some('[') {
            for c in chars.by_ref() {
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
        }
    }
    plain
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_in_a_terminal_renders_markdown_and_asks() {
    let (demo, home) = (start_demo().await, tempfile::tempdir().unwrap());
    let programs = [("EDITOR", "sed -i s/3/4/"), ("PAGER", "cat")];
    let mut chat = TerminalProgram::start(&["chat", "--url", &demo.url], home.path(), &programs);
    chat.wait_for("/help for help").await;
    chat.enter("what is broken?");
    chat.wait_for("Nothing was changed.").await;
    let text = chat.text();
    assert!(text.contains("payments/ledger-worker: CreateContainerConfigError"), "{text}");
    assert!(!text.contains("**payments"), "no marks of Markdown: {text}");
    assert!(text.contains("✓ [1] pods_list"), "{text}");
    chat.enter("/show 1");
    chat.wait_for("CreateContainerConfigError   0").await;
    chat.enter("scale checkout to 3");
    chat.wait_for("deployment_scale changes the cluster: shop/checkout, replicas 2 → 3").await;
    chat.wait_for("run it?").await;
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    chat.enter("e");
    chat.wait_for("with changed arguments name=checkout namespace=shop replicas=4").await;
    chat.wait_for("rollout of shop/checkout is complete").await;
    chat.enter("/cost");
    chat.wait_for("this session").await;
    chat.enter("/quit");
    let history = home.path().join(".local/state/k8sops/history");
    eventually("the history is written", async || {
        std::fs::read_to_string(&history).is_ok_and(|text| text.contains("scale checkout to 3"))
    })
    .await;
    assert_eq!(std::fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_in_a_terminal_is_streamed_and_rendered() {
    let (demo, home) = (start_demo().await, tempfile::tempdir().unwrap());
    let mut ask = TerminalProgram::start(&["ask", "--url", &demo.url, "what is broken?"], home.path(), &[]);
    ask.wait_for("continue with --session").await;
    eventually("the program ends", async || ask.child.try_wait().unwrap().is_some()).await;
    let text = ask.text();
    assert_eq!(text.matches("Nothing was changed.").count(), 1, "the answer is shown once: {text}");
    assert!(!text.contains("**"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn person_at_a_dumb_terminal_is_asked_like_any_other() {
    let (demo, home) = (start_demo().await, tempfile::tempdir().unwrap());
    let mut chat = TerminalProgram::start(&["chat", "--url", &demo.url], home.path(), &[("TERM", "dumb")]);
    chat.wait_for("/help for help").await;
    chat.enter("what is broken?");
    chat.wait_for("Nothing was changed.").await;
    assert_eq!(chat.text().matches("what is broken?").count(), 1, "only the terminal shows it: {}", chat.text());
    chat.enter("/delete");
    chat.wait_for("permanently delete").await;
    // An answer that was typed before the question could be read is none.
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    chat.enter("n");
    chat.wait_for("not deleted").await;
}
