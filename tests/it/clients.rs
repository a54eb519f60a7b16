//! Clients that third-party generators create from the OpenAPI document: each runs a turn against the demo.

use std::{path::Path, process::Stdio};

use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use crate::demo::start_demo;
use k8sops_testing::{TEST_TIMEOUT, testbed};

const CONTRACT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// Runs a program in a folder, and returns its output.
pub(crate) async fn run_in_folder(command: &mut Command, folder: &Path) -> String {
    command.current_dir(folder).env("NO_PROXY", "*").env("no_proxy", "*").kill_on_drop(true);
    let output = timeout(TEST_TIMEOUT, command.output()).await.expect("the program exits").unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn generated_python_client_completes_a_turn() {
    let (folder, generator) = (TempDir::new().unwrap(), testbed::path("K8SOPS_TEST_PYTHON_CLIENT"));
    let mut generate = Command::new(&generator);
    generate.args(["generate", "--meta", "none", "--path", CONTRACT, "--output-path", "k8sops_client"]);
    generate.arg("--config").arg(format!("{CLIENTS}/python.yaml"));
    // The generator calls `ruff`, which is in the same folder.
    let beside = Path::new(&generator).parent().unwrap().display();
    generate.env("PATH", format!("{beside}:{}", std::env::var("PATH").unwrap_or_default()));
    let said = run_in_folder(&mut generate, folder.path()).await;
    // The generator warns about operations that it cannot translate, and skips them.
    assert!(!said.contains("WARNING parsing") && !said.contains("Unable to process"), "{said}");

    let demo = start_demo().await;
    let mut turn = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
    turn.arg(format!("{CLIENTS}/turn.py")).arg(&demo.url).env("PYTHONPATH", folder.path());
    assert_eq!(run_in_folder(&mut turn, folder.path()).await.trim(), "done");
}

/// Runs an example with a yes for its approval.
async fn run_example(command: &mut Command, file: &str) -> String {
    command.args(["scale checkout to 3", file]).env("NO_PROXY", "*").env("no_proxy", "*").kill_on_drop(true);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"y\n").await.unwrap();
    let output = timeout(TEST_TIMEOUT, child.wait_with_output()).await.expect("the example ends").unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn examples_stream_and_approve() {
    for (program, file) in [("K8SOPS_TEST_PYTHON", "client.py"), ("K8SOPS_TEST_NODE", "client.ts")] {
        let path = format!("{}/examples/{file}", env!("CARGO_MANIFEST_DIR"));
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 60, "{file} has {lines} lines");
        let demo = start_demo().await;
        let folder = TempDir::new().unwrap();
        let manifest = folder.path().join("checkout.yaml");
        std::fs::write(&manifest, "kind: Deployment\n").unwrap();
        let manifest = manifest.to_str().unwrap();
        let said = run_example(Command::new(testbed::path(program)).arg(&path).arg(&demo.url), manifest).await;
        assert!(said.contains("replicas 2 → 3") && said.contains("Done: deployment.apps/checkout scaled."), "{said}");
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let get = async |path: String| -> serde_json::Value {
            client.get(format!("{}/v1/{path}", demo.url)).send().await.unwrap().json().await.unwrap()
        };
        let session = get("sessions".to_owned()).await["sessions"][0]["session_id"].as_str().unwrap().to_owned();
        let messages = get(format!("sessions/{session}/messages")).await;
        assert_eq!(messages["messages"][0]["attachments"][0]["name"], "checkout.yaml", "{messages}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn generated_typescript_client_completes_a_turn() {
    let (folder, node) = (TempDir::new().unwrap(), testbed::path("K8SOPS_TEST_NODE"));
    let node = |variable: &str| {
        let mut command = Command::new(&node);
        command.arg(testbed::path(variable));
        command
    };
    let mut generate = node("K8SOPS_TEST_TYPESCRIPT_CLIENT");
    // Fields with a default are optional in requests.
    generate.args([CONTRACT, "--output", "schema.d.ts", "--default-non-nullable=false"]);
    run_in_folder(&mut generate, folder.path()).await;

    std::fs::copy(format!("{CLIENTS}/turn.ts"), folder.path().join("turn.ts")).unwrap();
    std::fs::write(folder.path().join("package.json"), r#"{"type": "module"}"#).unwrap();
    std::os::unix::fs::symlink(testbed::path("K8SOPS_TEST_NODE_MODULES"), folder.path().join("node_modules")).unwrap();
    let mut compile = node("K8SOPS_TEST_TSC");
    compile.args(["--strict", "--noUncheckedIndexedAccess", "--target", "es2022", "--module", "nodenext"]);
    compile.args(["--lib", "es2023,dom", "turn.ts"]);
    run_in_folder(&mut compile, folder.path()).await;

    let demo = start_demo().await;
    let mut turn = Command::new(testbed::path("K8SOPS_TEST_NODE"));
    turn.args(["turn.js", &demo.url]);
    assert_eq!(run_in_folder(&mut turn, folder.path()).await.trim(), "done");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn hey_api_generates_types_that_compile() {
    let (folder, node) = (TempDir::new().unwrap(), testbed::path("K8SOPS_TEST_NODE"));
    std::os::unix::fs::symlink(testbed::path("K8SOPS_TEST_NODE_MODULES"), folder.path().join("node_modules")).unwrap();
    let mut generate = Command::new(&node);
    generate.arg(testbed::path("K8SOPS_TEST_HEY_API_CLIENT")).args(["-i", CONTRACT, "-o", "client"]);
    run_in_folder(&mut generate, folder.path()).await;
    // A union whose variants can be told apart: otherwise the compiler knows no `content` here.
    let program = r#"
        import type { Event, Transient } from "./client";
        export function text(event: Event | Transient): string {
          return event.type === "token" ? event.content : event.type === "tool_end" ? `${event.seq} ${event.content}` : "";
        }"#;
    std::fs::write(folder.path().join("program.ts"), program).unwrap();
    let mut compile = Command::new(&node);
    compile.arg(testbed::path("K8SOPS_TEST_TSC")).args(["--strict", "--noEmit", "--target", "es2022"]);
    compile.args(["--module", "esnext", "--moduleResolution", "bundler", "--lib", "es2023,dom,dom.iterable"]);
    run_in_folder(compile.arg("program.ts"), folder.path()).await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn generated_go_client_compiles() {
    let folder = TempDir::new().unwrap();
    let mut generate = Command::new("java");
    generate.arg("-jar").arg(testbed::path("K8SOPS_TEST_OPENAPI_GENERATOR")).args(["generate", "-g", "go"]);
    generate.args(["-i", CONTRACT, "-o", ".", "--additional-properties=useOneOfDiscriminatorLookup=true"]);
    let said = run_in_folder(&mut generate, folder.path()).await;
    // It warns about what it leaves out and replaces. The others are about version 3.1 of OpenAPI, and about a name of a schema that
    // it does not need.
    let known = ["3.1 support is still in beta", "Failed to get the schema name: null"];
    let is_known = |line: &str| known.iter().any(|words| line.contains(words));
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("WARN") && !is_known(line)).collect();
    assert_eq!(warnings, Vec::<&str>::new());

    let program = r#"
        package openapi
        func Text(event Event) string {
            if event.EventToolEnd != nil { return event.EventToolEnd.Content }
            return ""
        }"#;
    std::fs::write(folder.path().join("program.go"), program).unwrap();
    let mut compile = Command::new("go");
    compile.args(["build", "-mod=mod", "./..."]).env("GOPROXY", "off").env("GOFLAGS", "");
    compile.env("GOCACHE", folder.path().join(".cache")).env("HOME", folder.path());
    run_in_folder(&mut compile, folder.path()).await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn document_is_clean_by_the_recommended_rules_of_redocly() {
    let folder = TempDir::new().unwrap();
    let mut lint = Command::new(testbed::path("K8SOPS_TEST_NODE"));
    lint.arg(testbed::path("K8SOPS_TEST_REDOCLY")).args(["lint", "--extends", "recommended", "--format", "json"]);
    lint.arg(CONTRACT).env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
    let said = run_in_folder(&mut lint, folder.path()).await;
    let report: serde_json::Value =
        serde_json::Deserializer::from_str(&said[said.find('{').unwrap()..]).into_iter().next().unwrap().unwrap();
    assert_eq!(report["totals"], serde_json::json!({"errors": 0, "warnings": 0, "ignored": 0}), "{said}");
}
