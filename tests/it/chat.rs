//! `k8sops chat` as a program, with its input from a pipe.

use std::process::{Output, Stdio};

use k8sops::auth::UserRole;
use k8sops_testing::{
    TEST_TIMEOUT,
    scripted_model::{ScriptedModel, text},
};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use crate::{
    demo::start_demo,
    keys::ApiKeyFile,
    program::k8sops_command,
    service::{ServiceSetup, TestService},
};

fn chat_command(url: &str, arguments: &[&str]) -> Command {
    let mut command = k8sops_command();
    command.args(["chat", "--url", url]).args(arguments);
    command
}

/// Runs a chat with `input` as its standard input.
async fn run_chat(mut command: Command, input: &[u8]) -> Output {
    let mut chat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = chat.stdin.take().unwrap();
    // A chat that fails at its start reads no input.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    timeout(TEST_TIMEOUT, chat.wait_with_output()).await.expect("the chat ends").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn piped_chat_shows_tool_calls_and_answer() {
    let demo = start_demo().await;
    let output = run_chat(chat_command(&demo.url, &[]), b"what is broken?\n/sessions\n/quit\n").await;
    let shown = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}{errors}");
    assert!(shown.contains("pods_list"), "{shown}{errors}");
    assert!(shown.contains("CrashLoopBackOff"), "{shown}{errors}");
    assert!(shown.contains("what is broken?"), "the list has the title: {shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_utf8_line_is_skipped() {
    let demo = start_demo().await;
    let input = b"caf\xe9 restart\r\nwhat is broken?\r\n/sessions";
    let output = run_chat(chat_command(&demo.url, &[]), input).await;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("not valid UTF-8"), "{shown}");
    assert!(shown.contains("CrashLoopBackOff"), "{shown}");
    assert_eq!(shown.lines().filter(|line| line.starts_with("> ")).count(), 1, "one message: {shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_uses_the_sessions_of_its_token() {
    let mut keys = ApiKeyFile::new();
    let anna = keys.add("anna", &[UserRole::User]);
    let ben = keys.add("ben", &[UserRole::User]);
    let replies = [vec![text("hello anna")], vec![text("hello again")]];
    let setup = ServiceSetup { env: keys.env(), model: Some(ScriptedModel::new(replies)), ..ServiceSetup::default() };
    let mut service = TestService::start(setup).await;
    // The token comes from the option or from the variable. Other users of the machine cannot see the variable.
    let with_option = run_chat(chat_command(&service.base, &["--token", &anna]), b"who am I?\n/quit\n").await;
    let mut command = chat_command(&service.base, &["--continue"]);
    command.env("K8SOPS_TOKEN", &anna);
    let with_variable = run_chat(command, b"and now?\n/quit\n").await;
    for (output, answer) in [(&with_option, "hello anna"), (&with_variable, "hello again")] {
        let shown = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && shown.contains(answer), "{shown}{errors}");
        assert!(!shown.contains(&anna) && !errors.contains(&anna), "{shown}{errors}");
    }
    for (token, sessions) in [(anna, 1), (ben, 0)] {
        service.token = Some(token);
        let listed = service.get("/v1/sessions").await["sessions"].clone();
        assert_eq!(listed.as_array().unwrap().len(), sessions, "{listed}");
    }
    // Without a valid token the error says what to do.
    for arguments in [&[][..], &["--token", "k8sops_made-up"]] {
        let output = run_chat(chat_command(&service.base, arguments), b"who am I?\n").await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{errors}");
        assert!(errors.contains("K8SOPS_TOKEN") && !errors.contains("made-up"), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn file_goes_with_a_message_and_the_reply_is_rated() {
    let model = ScriptedModel::new([vec![text("a typo in kind")], vec![text("still the typo")], vec![text("hello")]]);
    let service = TestService::with(&model).await;
    let folder = tempfile::tempdir().unwrap();
    let (manifest, empty) = (folder.path().join("my pod.yaml"), folder.path().join("empty.log"));
    std::fs::write(&manifest, "kind: Pot\nmetadata: {name: web}\n").unwrap();
    std::fs::write(&empty, "\n").unwrap();
    let (manifest, empty, folder) = (manifest.display(), empty.display(), folder.path().display());
    let input = format!(
        "/bad\n/attach {empty}\n/attach {folder}\n/attach {folder}/none\n/attach {manifest}\n/attach\nwhat is wrong?\n/good it \
         helped\n/again\n/attach '{manifest}'\n/attach -\nhello\n/quit\n"
    );
    let output = run_chat(chat_command(&service.base, &[]), input.as_bytes()).await;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}");
    for line in [
        "there is no reply to rate".to_owned(),
        format!("{empty} is empty"),
        format!("{folder} cannot be read: it is not a regular file"),
        format!("{folder}/none cannot be read: No such file"),
        format!("{manifest} (32 B) goes with the next message"),
        format!("with the next message: {manifest} (32 B)"),
        "  + my pod.yaml (32 B)".to_owned(),
        "rated as helpful".to_owned(),
        "nothing goes with the next message".to_owned(),
    ] {
        assert!(shown.contains(&line), "{line}: {shown}");
    }
    let sessions = service.get("/v1/sessions").await;
    let session = format!("/v1/sessions/{}", sessions["sessions"][0]["session_id"].as_str().unwrap());
    let messages = service.get(&format!("{session}/messages")).await;
    let attached: Vec<usize> = messages["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|message| message["role"] == "user")
        .map(|message| message["attachments"].as_array().map_or(0, Vec::len))
        .collect();
    assert_eq!(attached, [1, 1, 0], "{messages:#}");
    assert_eq!(messages["messages"][0]["attachments"][0]["media_type"], "application/yaml");
    let feedback = &messages["messages"][1]["feedback"];
    assert_eq!((&feedback["rating"], &feedback["comment"]), (&"up".into(), &"it helped".into()), "{messages:#}");
    // Who opens the session later sees what was attached.
    let again = run_chat(chat_command(&service.base, &["--continue"]), b"/quit\n").await;
    let shown = String::from_utf8(again.stdout).unwrap();
    assert!(shown.contains("> what is wrong?\n  + my pod.yaml (32 B)"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn session_beyond_the_first_page_is_found_by_the_end_of_its_id() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let oldest = service.create_session().await;
    for _ in 0..260 {
        service.create_session().await;
    }
    let short = &oldest[oldest.len() - 8..];
    let output =
        run_chat(chat_command(&service.base, &["--session", short]), b"/title found\n/sessions\n/quit\n").await;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && shown.contains("there may be older ones"), "{shown}");
    assert_eq!(service.get(&oldest).await["title"], "found", "{shown}");
}
