//! The settings that the chart gives the service.

use std::collections::BTreeMap;

use k8sops_testing::{TEST_TIMEOUT, child_program::ChildProgram};
use serde_json::Value;
use tempfile::TempDir;

use super::chart::{
    VARIABLES_OUTSIDE_THE_CATALOG, as_list, config_map_data, egress_ports, has_cluster_sidecar, pod_spec,
    render_objects, settings_yaml, values_files,
};
use crate::program::k8sops_command;

/// Returns the environment of a pod, adapted to a test: other paths, and a free port on loopback.
fn service_environment(objects: &[Value], folder: &TempDir) -> BTreeMap<String, String> {
    let yaml = folder.path().join("settings.yaml");
    std::fs::write(&yaml, settings_yaml(objects)).unwrap();
    let env = config_map_data(objects, "-env").iter();
    let mut env: BTreeMap<_, _> = env.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    env.insert("K8SOPS_CONFIG".into(), yaml.to_str().unwrap().into());
    env.insert("K8SOPS_HOST".into(), "127.0.0.1".into());
    env.insert("K8SOPS_PORT".into(), "0".into());
    env.insert("MEMORY_FILESYSTEM_PATH".into(), folder.path().join("data").to_str().unwrap().into());
    env.insert("HOSTNAME".into(), "ops-0".into());
    // The test has no Secrets.
    if env.contains_key("AUTH_API_KEYS_FILE") {
        let keys = folder.path().join("api-keys");
        std::fs::write(&keys, "[]\n").unwrap();
        env.insert("AUTH_API_KEYS_FILE".into(), keys.to_str().unwrap().into());
    }
    env
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn service_accepts_all_settings_of_the_chart() {
    for (name, values) in values_files() {
        let folder = TempDir::new().unwrap();
        let objects = render_objects(&values, &[]).await;
        let mut program = k8sops_command();
        program
            .arg("config")
            .envs(service_environment(&objects, &folder))
            .env("ANTHROPIC_API_KEY", "k")
            .env("OPENAI_API_KEY", "k");
        let program = program.output().await.unwrap();
        let (out, err) = (String::from_utf8_lossy(&program.stdout), String::from_utf8_lossy(&program.stderr));
        assert!(program.status.success(), "{name}: {err}");
        let strange = err.lines().find(|line| !VARIABLES_OUTSIDE_THE_CATALOG.iter().any(|other| line.contains(other)));
        assert_eq!(strange, None, "{name}");
        let backend = out.lines().find(|line| line.starts_with("memory.backend")).unwrap();
        assert!(backend.contains("MEMORY_BACKEND (environment)"), "{name}: {backend}");
        assert_eq!(out.contains("/var/log/k8sops/ops-0.jsonl"), name == "redis-jwt-values", "{name}: {out}");
        for server in ["mcp.servers.cluster", "127.0.0.1:8081/mcp"] {
            assert_eq!(
                out.contains(server),
                has_cluster_sidecar(&name) || server.ends_with("cluster") && name == "redis-jwt-values",
                "{name}: {out}"
            );
        }
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn otlp_endpoint_may_refer_to_the_node_address() {
    let values = [
        "extraEnv[0].name=HOST_IP,extraEnv[0].valueFrom.fieldRef.fieldPath=status.hostIP",
        "tracing.otlpEndpoint=http://${HOST_IP}:4318,settings.telemetry.service_name=ops",
    ];
    let objects = render_objects(&values_files()["api-key-filesystem-values"], &["--set", &values.join(",")]).await;
    assert!(egress_ports(&objects).contains(&4318));
    let folder = TempDir::new().unwrap();
    let mut program = k8sops_command();
    program
        .arg("config")
        .envs(service_environment(&objects, &folder))
        .env("ANTHROPIC_API_KEY", "k")
        .env("HOST_IP", "10.0.0.7");
    let program = program.output().await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&program.stdout), String::from_utf8_lossy(&program.stderr));
    assert!(program.status.success(), "{err}");
    for (setting, value) in [("telemetry.otlp_endpoint", "http://10.0.0.7:4318"), ("telemetry.service_name", "ops")] {
        let line = out.lines().find(|line| line.starts_with(setting)).unwrap_or_else(|| panic!("{setting}: {out}"));
        assert!(line.contains(value), "{line}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn service_starts_with_the_settings_of_the_chart() {
    for name in ["api-key-filesystem-values", "try-out-values"] {
        let folder = TempDir::new().unwrap();
        let objects = render_objects(&values_files()[name], &[]).await;
        let mut program = k8sops_command();
        let program = ChildProgram::start(program.arg("serve").envs(service_environment(&objects, &folder))).await;
        let url = &program.url;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let path = as_list(&pod_spec(&objects)["containers"])[0][probe]["httpGet"]["path"].as_str().unwrap();
            let answer = client.get(format!("{url}{path}")).timeout(TEST_TIMEOUT).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{name}: {path}");
        }
        program.kill().await;
    }
}
