//! The Compose file, as far as it can be checked without an engine.

use std::path::Path;

use k8sops::config::settings_catalog;
use k8sops_testing::testbed;
use serde_json::Value;
use tokio::process::Command;

use super::chart::{ROOT, run_command};

/// The keys of providers, which are no settings of the catalog.
const PROVIDER_KEYS: [&str; 2] = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"];

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn compose_file_is_consistent() {
    let file = Path::new(ROOT).join("deploy/compose/compose.yaml");
    let mut python = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
    python.args(["-c", "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"]);
    let text = std::fs::read_to_string(&file).unwrap();
    let compose: Value = serde_json::from_str(&run_command(&mut python, Some(&text)).await.unwrap()).unwrap();
    let services = compose["services"].as_object().unwrap();
    let service = &services["k8sops"];
    let settings = settings_catalog().entries_with_variable();
    let is_setting = |name: &str| settings.iter().any(|entry| entry.descriptor.variable == name);
    for name in service["environment"].as_object().unwrap().keys() {
        assert!(is_setting(name) || PROVIDER_KEYS.contains(&name.as_str()), "{name} is no setting");
    }
    for port in service["ports"].as_array().unwrap() {
        assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "no authentication, so on this machine only: {port}");
    }
    for name in service["depends_on"].as_object().unwrap().keys() {
        assert!(services.contains_key(name), "{name}");
    }
    for (name, service) in services {
        let image = service["image"].as_str().unwrap();
        let tag = image.rsplit_once(':').map(|(_, tag)| tag);
        assert!(tag.is_some_and(|tag| tag != "latest"), "the image of {name} has no version: {image}");
    }
    let context = file.parent().unwrap().join(service["build"]["context"].as_str().unwrap());
    assert!(context.join("Dockerfile").exists());
    assert!(services["kubernetes"]["command"].as_array().unwrap().contains(&Value::from("--read-only")));
}
