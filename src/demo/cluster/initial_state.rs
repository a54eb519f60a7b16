//! The initial state of the cluster: a small shop with four broken workloads, each broken in a different way.

use super::cluster_state::{
    ClusterState, ConfigMapKeyRef, EventSeverity, PodStatus, PodTemplate, SimSeconds, SimulatedConfigMap,
    SimulatedDeployment, SimulatedNamespace, SimulatedNode, SimulatedPod, SimulatedService, replica_set_hash,
};

const MINUTE: SimSeconds = 60;
const HOUR: SimSeconds = 3600;
const DAY: SimSeconds = 86_400;

/// An initial deployment: namespace, name, replicas, image, port, CPU (m), memory (Mi), variables from ConfigMaps, age.
type DeploymentRow =
    (&'static str, &'static str, u32, &'static str, u16, u64, u64, &'static [(&'static str, &'static str)], SimSeconds);

const DEPLOYMENTS: &[DeploymentRow] = &[
    ("kube-system", "coredns", 2, "registry.k8s.io/coredns/coredns:v1.12.1", 53, 100, 70, &[], 41 * DAY),
    (
        "kube-system",
        "metrics-server",
        1,
        "registry.k8s.io/metrics-server/metrics-server:v0.8.0",
        443,
        100,
        200,
        &[],
        41 * DAY,
    ),
    ("monitoring", "grafana", 1, "grafana/grafana:12.1.0", 3000, 100, 256, &[], 40 * DAY),
    ("monitoring", "prometheus", 1, "quay.io/prometheus/prometheus:v3.5.0", 9090, 250, 2048, &[], 40 * DAY),
    (
        "payments",
        "ledger-worker",
        1,
        "registry.local/payments/ledger-worker:0.9.3",
        8080,
        100,
        256,
        &[("ledger-config", "LEDGER_QUEUE"), ("ledger-config", "LEDGER_TOPIC")],
        12 * DAY,
    ),
    (
        "payments",
        "payments-api",
        2,
        "registry.local/payments/api:1.8.0",
        8080,
        200,
        512,
        &[("payments-config", "DB_HOST"), ("payments-config", "LOG_LEVEL")],
        12 * DAY,
    ),
    ("payments", "postgres", 1, "postgres:17.5", 5432, 500, 2048, &[], 33 * DAY),
    ("shop", "cart", 2, "registry.local/shop/cart:1.12.0", 8080, 100, 256, &[], 9 * DAY),
    (
        "shop",
        "checkout",
        2,
        "registry.local/shop/checkout:2.4.1",
        8080,
        200,
        512,
        &[("checkout-config", "PAYMENTS_URL")],
        6 * DAY,
    ),
    ("shop", "recommendations", 1, "registry.local/shop/recommendations:0.6.0", 8080, 500, 24 * 1024, &[], 95 * MINUTE),
    ("shop", "storefront", 2, "nginx:1.26", 80, 100, 128, &[], 20 * DAY),
];

/// An initial ConfigMap: namespace, name, data.
type ConfigMapRow = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const CONFIG_MAPS: &[ConfigMapRow] = &[
    (
        "kube-system",
        "coredns",
        &[("Corefile", ".:53 {\n    errors\n    health\n    kubernetes cluster.local\n    cache 30\n}")],
    ),
    // LEDGER_TOPIC is missing, so ledger-worker cannot start.
    ("payments", "ledger-config", &[("LEDGER_QUEUE", "ledger-in")]),
    // The namespace is `payments`, not `payment`, so payments-api does not find its database.
    ("payments", "payments-config", &[("DB_HOST", "postgres.payment.svc.cluster.local"), ("LOG_LEVEL", "info")]),
    ("shop", "checkout-config", &[("PAYMENTS_URL", "http://payments-api.payments:8080")]),
];

impl ClusterState {
    /// Creates the cluster at time 0.
    pub(super) fn at_start(start_unix: i64) -> Self {
        let mut state = Self { start_unix, ..Self::default() };
        for (name, created) in [
            ("default", 41 * DAY),
            ("kube-system", 41 * DAY),
            ("monitoring", 40 * DAY),
            ("payments", 33 * DAY),
            ("shop", 33 * DAY),
        ] {
            state.namespaces.push(SimulatedNamespace { name: name.to_owned(), created: -created });
        }
        for (i, name) in ["node-1", "node-2", "node-3"].into_iter().enumerate() {
            state.nodes.push(SimulatedNode {
                name: name.to_owned(),
                ip: format!("192.168.10.{}", 11 + i),
                control_plane: i == 0,
                cpu: 4000,
                memory: if i == 0 { 8 * 1024 } else { 16 * 1024 },
                created: -41 * DAY,
            });
        }
        for (namespace, name, data) in CONFIG_MAPS {
            let data = data.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            state.config_maps.push(SimulatedConfigMap {
                namespace: (*namespace).to_owned(),
                name: (*name).to_owned(),
                created: -12 * DAY,
                data,
            });
        }
        for row in DEPLOYMENTS {
            state.add_deployment(row);
        }
        state.break_storefront();
        state.run_until_stable();
        state
    }

    fn add_deployment(&mut self, row: &DeploymentRow) {
        let &(namespace, name, replicas, image, port, cpu, memory, env, age) = row;
        let subnet = self.services.len();
        if !matches!(name, "ledger-worker" | "recommendations") {
            self.services.push(SimulatedService {
                namespace: namespace.to_owned(),
                name: if name == "coredns" { "kube-dns".to_owned() } else { name.to_owned() },
                ip: format!("10.43.{}.{}", subnet + 1, 10 + 7 * subnet),
                port,
                created: -age,
            });
        }
        let env =
            env.iter().map(|(map, key)| ConfigMapKeyRef { map: (*map).to_owned(), key: (*key).to_owned() }).collect();
        let template = PodTemplate { image: image.to_owned(), port, cpu, memory, env, restarted: None };
        self.deployments.push(SimulatedDeployment {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            created: -age,
            replicas,
            revision: if age > 5 * DAY { 4 } else { 1 },
            templates: vec![template.clone()],
        });
        for i in 0..replicas {
            let mut pod = self.create_pod(namespace, name, &template);
            pod.created = -age + SimSeconds::from(i);
            self.bring_to_present(&mut pod);
            self.pods.push(pod);
        }
    }

    /// Sets the state that an initial pod has reached by time 0, and records its events.
    fn bring_to_present(&mut self, pod: &mut SimulatedPod) {
        let object = format!("pod/{}", pod.name);
        let Some(node) = self.pick_node(&pod.namespace, &pod.template) else {
            pod.status = PodStatus::Unscheduled { retry: 4 * MINUTE };
            let message = self.explain_unschedulable(&pod.namespace, &pod.template);
            self.record_past_event(&pod.namespace, &object, "FailedScheduling", message, pod.created, MINUTE, 20);
            return;
        };
        pod.ip = Some(self.allocate_pod_ip(&node));
        pod.node = Some(node);
        pod.status = PodStatus::Running { since: pod.created + 3 };
        match pod.app.as_str() {
            "payments-api" => {
                pod.created += 12 * DAY - 3 * HOUR;
                pod.status = PodStatus::CrashLoopBackOff { retry: 200 + pod.created % 60 };
                pod.restarts = 39;
                pod.last_restart = Some(-100 + pod.created % 60);
                pod.crashed_on = Some("postgres.payment.svc.cluster.local".to_owned());
                let message = format!("Back-off restarting failed container {} in pod {}", pod.app, pod.name);
                self.record_past_event(&pod.namespace, &object, "BackOff", message, -55 * MINUTE, 15, 412);
            }
            "ledger-worker" => {
                pod.created = -26 * MINUTE;
                pod.status = PodStatus::ConfigError { retry: 240 };
                let message = "Error: couldn't find key LEDGER_TOPIC in ConfigMap payments/ledger-config".to_owned();
                self.record_past_event(&pod.namespace, &object, "Failed", message, pod.created, 8, 118);
            }
            _ => {}
        }
    }

    /// Adds a rollout that got stuck 42 minutes ago, because 1.27 was mistyped as 1.72.
    fn break_storefront(&mut self) {
        let Some(at) = self.deployments.iter().position(|d| d.name == "storefront") else { return };
        let deployment = &mut self.deployments[at];
        let template = PodTemplate { image: "nginx:1.72".to_owned(), ..deployment.template().clone() };
        deployment.templates.push(template.clone());
        deployment.revision += 1;
        let set = replica_set_hash("shop", "storefront", &template);
        let since = -42 * MINUTE;
        let message = format!("Scaled up replica set storefront-{set} from 0 to 1");
        self.record_past_event("shop", "deployment/storefront", "ScalingReplicaSet", message, since, since.abs(), 1);
        let mut pod = self.create_pod("shop", "storefront", &template);
        pod.created = since;
        let node = self.pick_node("shop", &template);
        pod.ip = node.as_deref().map(|n| self.allocate_pod_ip(n));
        pod.node = node;
        pod.status = PodStatus::ImagePullBackOff { retry: 3 * MINUTE };
        let object = format!("pod/{}", pod.name);
        let failure = super::controllers::image_pull_error(&template.image);
        self.record_past_event("shop", &object, "Failed", failure, since, 2 * MINUTE, 12);
        let message = "Back-off pulling image \"nginx:1.72\"".to_owned();
        self.record_past_event("shop", &object, "BackOff", message, since, 20, 171);
        self.pods.push(pod);
    }

    /// Records an event that was seen `count` times, from `first` until `ago` seconds before the start.
    #[expect(clippy::too_many_arguments, reason = "one row of the events table")]
    fn record_past_event(
        &mut self,
        namespace: &str,
        object: &str,
        reason: &'static str,
        message: String,
        first: SimSeconds,
        ago: SimSeconds,
        count: u32,
    ) {
        let severity = if reason == "ScalingReplicaSet" { EventSeverity::Normal } else { EventSeverity::Warning };
        self.record_event(namespace, object, severity, reason, message);
        if let Some(event) = self.events.last_mut() {
            (event.first, event.last, event.count) = (first, -ago, count);
        }
    }
}
