//! Renders the chart with Helm, and finds objects in the result.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
};

use k8sops_testing::{TEST_TIMEOUT, testbed};
use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

pub(super) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Variables of the chart that are not in the settings catalog.
pub(super) const VARIABLES_OUTSIDE_THE_CATALOG: [&str; 1] = ["K8SOPS_CONFIG"];

/// Returns the folder of the chart.
pub(super) fn chart_folder() -> PathBuf {
    Path::new(ROOT).join("deploy/helm/k8sops")
}

/// Returns the example values of the chart by file name, and those of the first installation.
pub(super) fn values_files() -> BTreeMap<String, PathBuf> {
    let files = std::fs::read_dir(chart_folder().join("ci")).unwrap().map(|entry| entry.unwrap().path());
    let named = files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path));
    let mut all: BTreeMap<_, _> = named.collect();
    assert!(all.len() >= 4, "{all:?}");
    all.insert("values-quickstart".to_owned(), chart_folder().join("values-quickstart.yaml"));
    all
}

/// Runs a command with this standard input, and returns its output.
pub(super) async fn run_command(command: &mut Command, input: Option<&str>) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let written = async {
        stdin.write_all(input.unwrap_or_default().as_bytes()).await.unwrap();
        drop(stdin);
    };
    let ended = async { tokio::join!(written, child.wait_with_output()).1 };
    let output = timeout(TEST_TIMEOUT, ended).await.unwrap_or_else(|_| panic!("{command:?} does not end")).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    if output.status.success() { Ok(out) } else { Err(format!("{out}{err}")) }
}

pub(super) fn helm_command(variable: &str, args: &[&str]) -> Command {
    let mut command = Command::new(testbed::path(variable));
    // Helm stores files in the home folder.
    command.env("HOME", std::env::temp_dir()).args(args);
    command
}

/// Renders the chart. An error holds the message of a failed validation.
pub(super) async fn render_chart(variable: &str, args: &[&str]) -> Result<String, String> {
    let chart = chart_folder();
    let all = ["template", "ops", chart.to_str().unwrap(), "--namespace", "ops", "--kube-version", "1.31"];
    run_command(&mut helm_command(variable, &[&all, args].concat()), None).await
}

/// Parses manifests and validates the objects against the schemas of Kubernetes.
pub(super) async fn parse_objects(manifests: &str) -> Vec<Value> {
    let mut python = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
    python.arg(testbed::path("K8SOPS_TEST_KUBE_OBJECTS")).args(["1.30", "1.37"]);
    let json = run_command(&mut python, Some(manifests)).await.unwrap();
    let mut node = Command::new(testbed::path("K8SOPS_TEST_NODE"));
    node.arg(testbed::path("K8SOPS_TEST_KUBE_MODELS")).arg(testbed::path("K8SOPS_TEST_NODE_MODULES"));
    run_command(&mut node, Some(&json)).await.unwrap();
    serde_json::from_str(&json).unwrap()
}

pub(super) async fn render_objects(values: &Path, args: &[&str]) -> Vec<Value> {
    let args = [&["--values", values.to_str().unwrap()], args].concat();
    parse_objects(&render_chart("K8SOPS_TEST_HELM", &args).await.unwrap()).await
}

/// Returns whether an example runs an MCP server with access to the cluster in the pod.
pub(super) fn has_cluster_sidecar(name: &str) -> bool {
    matches!(name, "proxy-sidecar-values" | "values-quickstart")
}

/// Returns the first object of a kind.
pub(super) fn find_object<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|o| o["kind"] == kind);
    found.next().unwrap_or_else(|| panic!("no {kind}"))
}

pub(super) fn as_list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn pod_spec(objects: &[Value]) -> &Value {
    &find_object(objects, "Deployment")["spec"]["template"]["spec"]
}

pub(super) fn config_map_data<'a>(objects: &'a [Value], end: &str) -> &'a serde_json::Map<String, Value> {
    let named = |o: &&Value| o["metadata"]["name"].as_str().is_some_and(|name| name.ends_with(end));
    objects.iter().filter(|o| o["kind"] == "ConfigMap").find(named).unwrap()["data"].as_object().unwrap()
}

/// Returns the settings.yaml of the pods.
pub(super) fn settings_yaml(objects: &[Value]) -> &str {
    config_map_data(objects, "-k8sops")["settings.yaml"].as_str().unwrap()
}

/// Returns the egress ports of the NetworkPolicy.
pub(super) fn egress_ports(objects: &[Value]) -> Vec<u64> {
    let rules = as_list(&find_object(objects, "NetworkPolicy")["spec"]["egress"]).iter();
    rules.flat_map(|rule| as_list(&rule["ports"])).map(|port| port["port"].as_u64().unwrap()).collect()
}
