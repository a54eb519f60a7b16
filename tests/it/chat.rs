//! `k8sops chat` and `k8sops doctor`, the programs themselves.

use std::process::{Output, Stdio};

use k8sops::auth::UserRole;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use crate::{
    demo::{Demo, k8sops},
    keys::Keys,
    service::{PATIENCE, Service, Setup},
};
use k8sops_testing::{
    scripted::{ScriptedModel, text},
    testbed,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_through_pipes_shows_the_tools_and_the_answer() {
    let demo = Demo::start().await;
    let mut command = k8sops();
    command.args(["chat", "--url", &demo.url]);
    let mut chat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = chat.stdin.take().unwrap();
    input.write_all(b"what is broken?\n/sessions\n/quit\n").await.unwrap();
    drop(input);
    let output = timeout(PATIENCE, chat.wait_with_output()).await.expect("it ends").unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("pods_list"), "{text}{errors}");
    assert!(text.contains("CrashLoopBackOff"), "{text}{errors}");
    assert!(text.contains("what is broken?"), "the list has the title: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piped_line_that_is_not_utf8_is_named_and_what_follows_is_answered() {
    let demo = Demo::start().await;
    let mut command = k8sops();
    command.args(["chat", "--url", &demo.url]);
    let mut chat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = chat.stdin.take().unwrap();
    input.write_all(b"caf\xe9 restart\r\nwhat is broken?\r\n/sessions").await.unwrap();
    drop(input);
    let output = timeout(PATIENCE, chat.wait_with_output()).await.expect("it ends").unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("not UTF-8"), "{text}");
    assert!(text.contains("CrashLoopBackOff"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("> ")).count(), 1, "one message: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_what_is_wrong_and_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let mut command = k8sops();
    command
        .arg("doctor")
        .env("MEMORY_FILESYSTEM_PATH", data.path())
        .env("LLM_PROVIDER", "anthropic")
        .env("MCP_TRANSPORT", "http")
        .env("MCP_SERVER_URL", format!("http://127.0.0.1:{}/mcp", testbed::free_port()));
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("ANTHROPIC_API_KEY"), "{text}");
    assert!(text.lines().any(|line| line.contains("mcp") && line.contains("FAIL")), "{text}");
    assert!(text.lines().any(|line| line.contains("store") && line.starts_with("ok")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_knows_a_model_server_from_any_other() {
    let (demo, data) = (Demo::start().await, tempfile::tempdir().unwrap());
    let mut command = k8sops();
    command.arg("doctor").env("MEMORY_FILESYSTEM_PATH", data.path()).env("OPENAI_API_KEY", "k");
    command.env("LLM_PROVIDER", "openai").env("OPENAI_BASE_URL", format!("{}/v1", demo.url));
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.contains("provider openai")).unwrap();
    assert!(line.starts_with("FAIL") && line.contains("404") && line.contains("doubled /v1"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_value_stops_the_start_with_one_line_that_says_what_is_allowed() {
    let output = k8sops().arg("serve").env("MEMORY_BACKEND", "floppy").output().await.unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    let line = errors.lines().find(|line| line.contains("MEMORY_BACKEND")).unwrap_or_else(|| panic!("{errors}"));
    assert!(line.contains("floppy") && line.contains("filesystem"), "{line}");
}

/// A chat that is typed through a pipe.
async fn chat(mut command: Command, typed: &str) -> Output {
    let mut chat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = chat.stdin.take().unwrap();
    // One that ends at its start takes nothing in.
    let _ = input.write_all(typed.as_bytes()).await;
    drop(input);
    timeout(PATIENCE, chat.wait_with_output()).await.expect("it ends").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_that_of_the_user_whose_key_it_is_given() {
    let mut keys = Keys::new();
    let (anna, ben) = (keys.add("anna", &[UserRole::User]), keys.add("ben", &[UserRole::User]));
    let replies = [vec![text("hello anna")], vec![text("hello again")]];
    let setup = Setup { env: keys.env(), model: Some(ScriptedModel::new(replies)), ..Setup::default() };
    let mut service = Service::start(setup).await;
    let command = |arguments: &[&str]| {
        let mut command = k8sops();
        command.args(["chat", "--url", &service.base]).args(arguments);
        command
    };
    // By the option, and by the variable, which no other user of the machine sees.
    let by_option = chat(command(&["--token", &anna]), "who am I?\n/quit\n").await;
    let mut by_variable = command(&["--continue"]);
    by_variable.env("K8SOPS_TOKEN", &anna);
    let by_variable = chat(by_variable, "and now?\n/quit\n").await;
    for (output, answer) in [(&by_option, "hello anna"), (&by_variable, "hello again")] {
        let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains(answer), "{said}{errors}");
        assert!(!said.contains(&anna) && !errors.contains(&anna), "{said}{errors}");
    }
    for (token, sessions) in [(anna, 1), (ben, 0)] {
        service.token = Some(token);
        let listed = service.get("/v1/sessions").await["sessions"].clone();
        assert_eq!(listed.as_array().unwrap().len(), sessions, "{listed}");
    }
    // Without one, or with one that is none, it says so and what to do.
    for arguments in [&[][..], &["--token", "k8sops_made-up"]] {
        let output = chat(command(arguments), "who am I?\n").await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{errors}");
        assert!(errors.contains("K8SOPS_TOKEN") && !errors.contains("made-up"), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_whose_key_it_is() {
    let mut keys = Keys::new();
    let (anna, data) = (keys.add("anna", &[UserRole::User, UserRole::Approver]), tempfile::tempdir().unwrap());
    let env = keys.env();
    let ask = async |arguments: &[&str]| {
        let mut command = k8sops();
        command.arg("doctor").args(arguments).env("MEMORY_FILESYSTEM_PATH", data.path()).envs(env.clone());
        let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!said.contains(&anna) && !said.contains("made-up"), "{said}");
        said.lines().find(|line| line.contains("identity")).unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    let line = ask(&["--token", &anna]).await;
    assert!(line.starts_with("ok") && line.contains("anna's (user, approver)"), "{line}");
    let line = ask(&["--token", "k8sops_made-up"]).await;
    assert!(line.starts_with("FAIL") && line.contains("another --token"), "{line}");
    let line = ask(&[]).await;
    assert!(line.starts_with("ok") && line.contains("api_key"), "{line}");
    keys.remove("anna");
    let line = ask(&["--token", &anna]).await;
    assert!(line.starts_with("FAIL"), "a file in which nobody stands: {line}");
}
