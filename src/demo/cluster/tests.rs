//! The initial state of the simulated cluster, and the consequences of changes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::*;

/// A cluster whose clock advances only on request.
struct TestCluster {
    cluster: SimulatedCluster,
    seconds: Arc<AtomicU64>,
}

impl TestCluster {
    fn new() -> Self {
        let seconds = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&seconds);
        let start = "2026-03-02T09:00:00Z".parse().unwrap();
        let cluster = SimulatedCluster::with_clock(start, move || Duration::from_secs(clock.load(Ordering::Relaxed)));
        Self { cluster, seconds }
    }

    fn wait(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Returns NAME and STATUS of the pods of an app.
    fn pods(&self, app: &str) -> Vec<(String, String)> {
        let table = self.cluster.list_pods(None);
        let cells = table.lines().map(|l| l.split("   ").map(str::trim).filter(|c| !c.is_empty()).collect::<Vec<_>>());
        cells.filter(|c| c[1].starts_with(app)).map(|c| (c[1].to_owned(), c[3].to_owned())).collect()
    }

    fn statuses(&self, app: &str) -> Vec<String> {
        self.pods(app).into_iter().map(|(_, status)| status).collect()
    }

    fn done(&self, namespace: &str, name: &str) -> bool {
        self.cluster.rollout_status(namespace, name).unwrap().done
    }
}

#[test]
fn four_workloads_are_broken_initially() {
    let lab = TestCluster::new();
    assert_eq!(lab.statuses("payments-api"), ["CrashLoopBackOff", "CrashLoopBackOff"]);
    assert_eq!(lab.statuses("ledger-worker"), ["CreateContainerConfigError"]);
    assert_eq!(lab.statuses("recommendations"), ["Pending"]);
    let mut storefront = lab.statuses("storefront");
    storefront.sort();
    assert_eq!(storefront, ["ImagePullBackOff", "Running", "Running"]);
    assert_eq!(lab.cluster.list_pods(None).matches(" Running ").count(), 12);
}

#[test]
fn simulation_is_deterministic() {
    let show = |lab: &TestCluster| {
        [lab.cluster.list_pods(None), lab.cluster.list_events(None), lab.cluster.list_nodes()].join("\n")
    };
    let one = TestCluster::new();
    let two = TestCluster::new();
    assert_eq!(show(&one), show(&two));
    // Reads in between make no difference.
    for _ in 0..900 {
        one.wait(1);
        let _ = one.cluster.list_pods(None);
    }
    two.wait(900);
    assert_eq!(show(&one), show(&two));
}

#[test]
fn events_and_logs_name_the_causes() {
    let lab = TestCluster::new();
    let events = lab.cluster.list_events(None);
    assert!(events.contains("Failed to pull image \"nginx:1.72\""), "{events}");
    assert!(events.contains("couldn't find key LEDGER_TOPIC in ConfigMap payments/ledger-config"), "{events}");
    assert!(
        events.contains("0/3 nodes are available: 1 node(s) had untolerated taint")
            && events.contains("2 Insufficient memory."),
        "{events}"
    );
    let (pod, _) = lab.pods("payments-api").remove(0);
    let log = lab.cluster.read_pod_log("payments", &pod, 2, ContainerInstance::Current).unwrap();
    assert_eq!(log.lines().count(), 2);
    assert!(log.contains("lookup postgres.payment.svc.cluster.local on 10.43.0.10:53: no such host"), "{log}");
    let (pod, _) = lab.pods("ledger-worker").remove(0);
    let refused = lab.cluster.read_pod_log("payments", &pod, 2, ContainerInstance::Current).unwrap_err();
    assert!(refused.to_string().contains("waiting to start: CreateContainerConfigError"), "{refused}");
}

#[test]
fn existing_image_completes_a_stuck_rollout() {
    let lab = TestCluster::new();
    lab.cluster.set_deployment_image("shop", "storefront", "nginx:1.27").unwrap();
    let running = |lab: &TestCluster| lab.statuses("storefront").iter().filter(|s| *s == "Running").count();
    while !lab.done("shop", "storefront") {
        assert!(running(&lab) >= 2, "a rolling update never has fewer pods than replicas");
        lab.wait(1);
        assert!(lab.seconds.load(Ordering::Relaxed) < 30);
    }
    assert_eq!(lab.statuses("storefront"), ["Running", "Running"]);
    assert!(!lab.cluster.list_pods(Some("shop")).contains("nginx:1.26"));
}

#[test]
fn rollback_undoes_a_missing_image() {
    let lab = TestCluster::new();
    let before = lab.pods("cart");
    lab.cluster.set_deployment_image("shop", "cart", "registry.local/shop/cart:9").unwrap();
    lab.wait(60);
    assert!(!lab.done("shop", "cart"));
    let history = lab.cluster.get_rollout_history("shop", "cart").unwrap();
    let [earlier, current] = history.split("---\n").collect::<Vec<_>>().try_into().unwrap();
    assert!(current.contains("revision: \"5\"") && current.contains("image: registry.local/shop/cart:9"), "{history}");
    assert!(earlier.contains("revision: \"4\"") && !earlier.contains("cart:9"), "{history}");
    assert_eq!(lab.pods("cart").iter().filter(|(_, s)| s == "Running").count(), 2);
    lab.cluster.roll_back_deployment("shop", "cart").unwrap();
    assert_eq!(lab.pods("cart"), before);
    assert!(lab.done("shop", "cart"));
}

#[test]
fn config_key_resolves_the_config_error() {
    let lab = TestCluster::new();
    lab.cluster.set_config_map_key("payments", "ledger-config", "LEDGER_TOPIC", "ledger.v2").unwrap();
    lab.wait(2);
    assert_eq!(lab.statuses("ledger-worker"), ["Running"]);
    assert!(lab.cluster.get_config_map("payments", "ledger-config").unwrap().contains("LEDGER_TOPIC: ledger.v2"));
}

#[test]
fn crash_loop_ends_with_the_next_attempt_or_a_restart() {
    let lab = TestCluster::new();
    lab.cluster.set_config_map_key("payments", "payments-config", "DB_HOST", "postgres.payments").unwrap();
    lab.wait(5);
    assert_eq!(lab.statuses("payments-api"), ["CrashLoopBackOff", "CrashLoopBackOff"], "the back-off has not ended");
    let patient = TestCluster::new();
    patient.cluster.set_config_map_key("payments", "payments-config", "DB_HOST", "postgres").unwrap();
    patient.wait(300);
    assert_eq!(patient.statuses("payments-api"), ["Running", "Running"]);

    lab.cluster.restart_deployment("payments", "payments-api").unwrap();
    lab.wait(3);
    assert_eq!(lab.statuses("payments-api"), ["Running", "Running"]);
    assert!(lab.done("payments", "payments-api"));
}

#[test]
fn restart_without_a_fix_crashes_again() {
    let lab = TestCluster::new();
    lab.cluster.restart_deployment("payments", "payments-api").unwrap();
    lab.wait(3);
    assert_eq!(lab.statuses("payments-api"), ["CrashLoopBackOff", "CrashLoopBackOff"]);
}

#[test]
fn smaller_memory_request_schedules_the_pod() {
    let lab = TestCluster::new();
    lab.cluster.set_deployment_resources("shop", "recommendations", None, Some("2Gi")).unwrap();
    lab.wait(3);
    assert_eq!(lab.statuses("recommendations"), ["Running"]);
    lab.cluster.set_deployment_resources("shop", "recommendations", None, Some("lots")).unwrap_err();
}

#[test]
fn scaling_adds_and_removes_pods() {
    let lab = TestCluster::new();
    lab.cluster.scale_deployment("shop", "checkout", 5).unwrap();
    lab.wait(3);
    assert_eq!(lab.statuses("checkout"), ["Running"; 5]);
    lab.cluster.scale_deployment("shop", "checkout", 1).unwrap();
    assert_eq!(lab.statuses("checkout"), ["Running"]);
    assert!(lab.cluster.list_events(Some("shop")).contains("from 5 to 1"));
    lab.cluster.scale_deployment("shop", "checkout", 51).unwrap_err();
}

#[test]
fn deleted_pod_is_replaced() {
    let lab = TestCluster::new();
    let before = lab.pods("cart");
    lab.cluster.delete_pod("shop", &before[0].0).unwrap();
    lab.wait(3);
    let after = lab.pods("cart");
    assert_eq!(lab.statuses("cart"), ["Running", "Running"]);
    assert!(!after.contains(&before[0]) && after.contains(&before[1]), "{after:?}");
}

#[test]
fn restart_replaces_every_pod() {
    let lab = TestCluster::new();
    let before = lab.pods("checkout");
    lab.cluster.restart_deployment("shop", "checkout").unwrap();
    lab.wait(20);
    let after = lab.pods("checkout");
    assert!(lab.done("shop", "checkout"));
    assert!(after.len() == 2 && before.iter().all(|p| !after.contains(p)), "{after:?}");
}

#[test]
fn unknown_names_get_kubectl_errors() {
    let lab = TestCluster::new();
    let said = |r: Result<String, SimulatedClusterError>| r.unwrap_err().to_string();
    assert_eq!(said(lab.cluster.delete_pod("shop", "x")), "Error from server (NotFound): pods \"x\" not found");
    assert_eq!(
        said(lab.cluster.scale_deployment("shop", "x", 1)),
        "Error from server (NotFound): deployments.apps \"x\" not found"
    );
    assert_eq!(
        said(lab.cluster.describe_object("gadget", "shop", "x")),
        "error: the server doesn't have a resource type \"gadget\""
    );
    assert_eq!(lab.cluster.list_pods(Some("x")), "No resources found in x namespace.");
}

#[test]
fn descriptions_show_image_state_and_endpoints() {
    let lab = TestCluster::new();
    let deployment = lab.cluster.describe_object("deployment", "shop", "storefront").unwrap();
    assert!(deployment.contains("Image:     nginx:1.72"), "{deployment}");
    assert!(deployment.contains("(2 pods, image nginx:1.26)"), "{deployment}");
    let (pod, _) = lab.pods("payments-api").remove(0);
    let pod = lab.cluster.describe_object("pod", "payments", &pod).unwrap();
    assert!(pod.contains("Reason:  CrashLoopBackOff") && pod.contains("config map 'payments-config'"), "{pod}");
    assert!(lab.cluster.describe_object("node", "", "node-2").unwrap().contains("memory: 16Gi"));
    assert!(lab.cluster.describe_object("service", "payments", "payments-api").unwrap().contains("Endpoints:  <none>"));
}

#[test]
fn long_pause_is_simulated_quickly() {
    let lab = TestCluster::new();
    lab.wait(30 * 86_400);
    let started = Instant::now();
    assert_eq!(lab.statuses("payments-api").len(), 2);
    assert!(started.elapsed() < Duration::from_secs(5));
}
