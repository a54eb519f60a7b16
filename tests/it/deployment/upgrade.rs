//! The chart in a cluster: `helm install` and `helm upgrade` against a stub of the API server.

use data_encoding::{BASE64, HEXLOWER};
use k8sops_testing::testbed;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use super::chart::{chart_folder, helm_command, run_command};
use crate::mcp::start_cluster_stub;

const NAMESPACE: &str = "shop";

async fn kubectl(kubeconfig: &str, args: &[&str]) -> String {
    let mut command = Command::new(testbed::path("K8SOPS_TEST_KUBECTL"));
    command.args(["--kubeconfig", kubeconfig, "--namespace", NAMESPACE]).args(args);
    run_command(&mut command, None).await.unwrap()
}

/// Returns the generated key, after checking that the file of keys has its digest.
async fn generated_key(kubeconfig: &str) -> String {
    let secret = kubectl(kubeconfig, &["get", "secret", "k8sops-generated-key", "-o", "json"]).await;
    let secret: Value = serde_json::from_str(&secret).unwrap();
    let decode = |name: &str| {
        let bytes = BASE64.decode(secret["data"][name].as_str().unwrap().as_bytes()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let key = decode("key");
    assert_eq!(secret["data"].as_object().unwrap().len(), 2, "{secret}");
    let file = secret["data"].as_object().unwrap().keys().find(|name| *name != "key").unwrap();
    let digest = HEXLOWER.encode(&Sha256::digest(&key));
    assert!(decode(file).contains(&digest), "{}", decode(file));
    key
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn generated_key_outlives_upgrades_with_helm_3_and_4() {
    for variable in ["K8SOPS_TEST_HELM3", "K8SOPS_TEST_HELM"] {
        let (cluster, _folder, kubeconfig) = start_cluster_stub().await;
        let chart = chart_folder();
        let values = chart.join("values-quickstart.yaml");
        let helm = async |command: &str, more: &[&str]| {
            let (chart, values) = (chart.to_str().unwrap(), values.to_str().unwrap());
            let mut args = vec!["--kubeconfig", &kubeconfig, command, "k8sops", chart, "--namespace", NAMESPACE];
            args.extend(["--values", values, "--set", "image.repository=registry.test/k8sops"]);
            args.extend(more);
            let ran = run_command(&mut helm_command(variable, &args), None).await;
            ran.unwrap_or_else(|said| panic!("{variable} {command}: {said}"))
        };
        let notes = helm("install", &[]).await;
        assert!(notes.contains("get secret k8sops-generated-key"), "{notes}");
        let key = generated_key(&kubeconfig).await;
        assert!(key.starts_with("k8sops_") && key.len() == 50, "{key}");
        // What changes is applied, and the key stays.
        helm("upgrade", &["--set", "podAnnotations.restarted=now"]).await;
        assert_eq!(generated_key(&kubeconfig).await, key, "{variable}");
        let deployment = kubectl(&kubeconfig, &["get", "deployment", "k8sops", "-o", "json"]).await;
        assert!(deployment.contains("\"restarted\": \"now\""), "{deployment}");
        // Who has lost the key deletes the Secret, and gets another one.
        kubectl(&kubeconfig, &["delete", "secret", "k8sops-generated-key"]).await;
        helm("upgrade", &[]).await;
        assert_ne!(generated_key(&kubeconfig).await, key, "{variable}");
        drop(cluster);
    }
}
