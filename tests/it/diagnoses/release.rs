//! The preview of changes of a Helm release, with real Helm binaries, through a server that takes command lines.

use std::path::Path;

use serde_json::json;
use tokio::process::Command;

use super::{ClusterService, changed_lines, start_command_line_server};
use k8sops_testing::{
    scripted_model::{call, text},
    testbed,
};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/diagnoses/chart");

/// A command of helm, and what its approval request must show: the summary, and the changed lines of the diff.
struct ReleaseCase {
    command: String,
    summary: &'static str,
    lines: &'static [&'static str],
}

/// What becomes of the release `shop/web`, one after the other.
fn release_cases() -> Vec<ReleaseCase> {
    vec![
        ReleaseCase {
            command: format!("helm upgrade web {CHART} -n shop --set image=registry.example/web:1.1.0"),
            summary: "shop/web: upgrade of a release, 2 objects change; \
                      shop/web: image (none) → registry.example/web:1.1.0; \
                      shop/web: web image registry.example/web:1.0.0 → registry.example/web:1.1.0",
            lines: &[
                "+image: registry.example/web:1.1.0",
                "-      - image: registry.example/web:1.0.0",
                "+      - image: registry.example/web:1.1.0",
            ],
        },
        ReleaseCase {
            command: format!(
                "helm upgrade --install web {CHART} --namespace shop --reuse-values --set replicas=0 --wait"
            ),
            summary: "shop/web: upgrade of a release, 2 objects change; \
                      shop/web: replicas (none) → 0; shop/web: replicas 2 → 0",
            lines: &["+replicas: 0", "-  replicas: 2", "+  replicas: 0"],
        },
        ReleaseCase {
            command: "helm rollback web -n shop".into(),
            summary: "shop/web: rollback of a release, 1 object changes; shop/web: replicas 0 → 2",
            lines: &["-  replicas: 0", "+  replicas: 2"],
        },
        ReleaseCase {
            command: "helm rollback web 1 --namespace shop".into(),
            summary: "shop/web: rollback of a release, 1 object changes; \
                      shop/web: web image registry.example/web:1.1.0 → registry.example/web:1.0.0",
            lines: &["-      - image: registry.example/web:1.1.0", "+      - image: registry.example/web:1.0.0"],
        },
        ReleaseCase {
            command: "helm uninstall web -n shop".into(),
            summary: "shop/web: uninstall of a release, 2 objects change; \
                      shop/web: ConfigMap is deleted; shop/web: Deployment is deleted",
            lines: &["-kind: ConfigMap", "-  replicas: 2", "-      - image: registry.example/web:1.0.0"],
        },
    ]
}

async fn check_release_previews(helm: &str) {
    let folder = Path::new(helm).parent().unwrap().to_str().unwrap();
    let started = start_command_line_server(&[folder]).await;
    run_helm(&started, helm, &["install", "web", CHART, "--namespace", "shop"]).await;
    for ReleaseCase { command, summary, lines } in release_cases() {
        let replies = vec![vec![call("k8s_helm_execute", json!({"command": command}))], vec![text("Done.")]];
        let (session, mut stream, asked) = started.ask(replies).await;
        assert_eq!(asked["summary"], json!(summary), "{command}: {asked:#}");
        let shown = changed_lines(&asked);
        assert!(lines.iter().all(|line| shown.contains(line)), "{command}: {shown:#?}");
        assert_eq!(started.changes().await, Vec::<String>::new(), "{command}: nothing changes before the answer");
        let frames = started.approve(&session, &mut stream, &asked).await;
        let end = frames.iter().find(|frame| frame["type"] == "tool_end").unwrap();
        assert_eq!(end["status"], "ok", "{command}: {end}");
    }
    assert_eq!(started.get("/apis/apps/v1/namespaces/shop/deployments/web").await["code"], 404);
}

/// Runs helm outside of the service.
async fn run_helm(started: &ClusterService, helm: &str, arguments: &[&str]) {
    let mut command = Command::new(helm);
    command.args(arguments).env("KUBECONFIG", &started.kubeconfig).env("HOME", started.dir.path());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn helm_4_release_is_previewed_as_a_diff_of_its_manifests() {
    Box::pin(check_release_previews(&testbed::path("K8SOPS_TEST_HELM"))).await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn helm_3_release_is_previewed_as_a_diff_of_its_manifests() {
    Box::pin(check_release_previews(&testbed::path("K8SOPS_TEST_HELM3"))).await;
}
