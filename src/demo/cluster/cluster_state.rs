//! The objects of the simulated cluster. [`super::controllers`] changes them, [`super::kubectl_output`] prints them.

use std::collections::BTreeMap;

use super::cluster_error::{SimulatedClusterError, not_found};

/// Seconds since the simulation started; negative for earlier times.
pub(super) type SimSeconds = i64;

/// The whole cluster.
#[derive(Debug, Default)]
pub(super) struct ClusterState {
    /// The current time. Only [`ClusterState::advance_to`] changes it.
    pub now: SimSeconds,
    /// The Unix time in seconds at which `now` was 0, for the timestamps of log lines.
    pub start_unix: i64,
    pub namespaces: Vec<SimulatedNamespace>,
    pub nodes: Vec<SimulatedNode>,
    pub deployments: Vec<SimulatedDeployment>,
    pub pods: Vec<SimulatedPod>,
    pub services: Vec<SimulatedService>,
    pub config_maps: Vec<SimulatedConfigMap>,
    pub events: Vec<SimulatedEvent>,
    /// Counts generated names and addresses, so that they are unique and the same in every run.
    pub serial: u32,
}

#[derive(Debug)]
pub(super) struct SimulatedNamespace {
    pub name: String,
    pub created: SimSeconds,
}

#[derive(Debug)]
pub(super) struct SimulatedNode {
    pub name: String,
    pub ip: String,
    pub control_plane: bool,
    pub cpu: u64,
    pub memory: u64,
    pub created: SimSeconds,
}

#[derive(Debug)]
pub(super) struct SimulatedDeployment {
    pub namespace: String,
    pub name: String,
    pub created: SimSeconds,
    pub replicas: u32,
    /// The number of template changes.
    pub revision: u32,
    /// The history of pod templates, the current one last. Never empty.
    pub templates: Vec<PodTemplate>,
}

impl SimulatedDeployment {
    /// Returns the current pod template.
    pub(super) fn template(&self) -> &PodTemplate {
        self.templates.last().expect("a deployment is created with a template, and the last one is never removed")
    }
}

/// The template of a deployment's pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodTemplate {
    pub image: String,
    pub port: u16,
    /// Requested CPU in thousandths of a core.
    pub cpu: u64,
    /// Requested memory in MiB.
    pub memory: u64,
    pub env: Vec<ConfigMapKeyRef>,
    /// Set by `rollout restart`, so that the template differs and the pods are replaced.
    pub restarted: Option<SimSeconds>,
}

/// An environment variable whose value is read from a ConfigMap when the container starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConfigMapKeyRef {
    pub map: String,
    /// The key, which is also the name of the variable.
    pub key: String,
}

#[derive(Debug, Clone)]
pub(super) struct SimulatedPod {
    pub namespace: String,
    pub name: String,
    /// The deployment of the pod.
    pub app: String,
    /// The hash in the name of its ReplicaSet.
    pub set: String,
    pub template: PodTemplate,
    pub created: SimSeconds,
    pub node: Option<String>,
    pub ip: Option<String>,
    pub status: PodStatus,
    pub restarts: u32,
    pub last_restart: Option<SimSeconds>,
    /// The host that was not found when it last crashed.
    pub crashed_on: Option<String>,
}

/// The state of a pod, with the time of its next change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PodStatus {
    /// No node has enough free resources.
    Unscheduled { retry: SimSeconds },
    /// `ContainerCreating`.
    Starting { until: SimSeconds },
    /// The container runs and is ready.
    Running { since: SimSeconds },
    /// `ImagePullBackOff`.
    ImagePullBackOff { retry: SimSeconds },
    /// `CreateContainerConfigError`.
    ConfigError { retry: SimSeconds },
    /// `CrashLoopBackOff`.
    CrashLoopBackOff { retry: SimSeconds },
}

impl SimulatedPod {
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.status, PodStatus::Running { .. })
    }

    /// Returns when the pod changes next without an external cause.
    pub(super) fn next_change_at(&self) -> Option<SimSeconds> {
        match self.status {
            PodStatus::Running { .. } => None,
            PodStatus::Starting { until } => Some(until),
            PodStatus::Unscheduled { retry }
            | PodStatus::ImagePullBackOff { retry }
            | PodStatus::ConfigError { retry }
            | PodStatus::CrashLoopBackOff { retry } => Some(retry),
        }
    }

    /// Returns the text of the STATUS column.
    pub(super) fn status_text(&self) -> &'static str {
        match self.status {
            PodStatus::Unscheduled { .. } => "Pending",
            PodStatus::Starting { .. } => "ContainerCreating",
            PodStatus::Running { .. } => "Running",
            PodStatus::ImagePullBackOff { .. } => "ImagePullBackOff",
            PodStatus::ConfigError { .. } => "CreateContainerConfigError",
            PodStatus::CrashLoopBackOff { .. } => "CrashLoopBackOff",
        }
    }
}

#[derive(Debug)]
pub(super) struct SimulatedService {
    pub namespace: String,
    pub name: String,
    pub ip: String,
    pub port: u16,
    pub created: SimSeconds,
}

#[derive(Debug)]
pub(super) struct SimulatedConfigMap {
    pub namespace: String,
    pub name: String,
    pub created: SimSeconds,
    pub data: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(super) struct SimulatedEvent {
    pub namespace: String,
    /// The object as `kind/name`.
    pub object: String,
    pub severity: EventSeverity,
    pub reason: &'static str,
    pub message: String,
    pub first: SimSeconds,
    pub last: SimSeconds,
    pub count: u32,
}

/// The `type` of a Kubernetes event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventSeverity {
    Normal,
    Warning,
}

/// Which run of a container a log is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerInstance {
    /// The run in progress.
    Current,
    /// The run before the last restart.
    Previous,
}

/// Why a container does not start, or exits again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ContainerFault {
    /// The registry does not have the image.
    MissingImage,
    /// The configuration is incomplete; with the kubelet's message.
    ConfigError(String),
    /// The cluster's DNS does not resolve this host, which the program needs.
    UnknownHost(String),
}

/// The images in the simulated registries: repository, tags, and the variable whose value must be the host of a Service.
const IMAGES: &[(&str, &[&str], Option<&str>)] = &[
    ("nginx", &["1.25", "1.26", "1.27", "1.28", "1.29", "latest"], None),
    ("postgres", &["16.9", "17.5"], None),
    ("registry.local/shop/checkout", &["2.3.0", "2.4.0", "2.4.1"], None),
    ("registry.local/shop/cart", &["1.11.2", "1.12.0"], None),
    ("registry.local/shop/recommendations", &["0.5.0", "0.6.0"], None),
    ("registry.local/payments/api", &["1.7.2", "1.8.0"], Some("DB_HOST")),
    ("registry.local/payments/ledger-worker", &["0.9.2", "0.9.3"], None),
    ("quay.io/prometheus/prometheus", &["v3.4.0", "v3.5.0"], None),
    ("grafana/grafana", &["12.0.2", "12.1.0"], None),
    ("registry.k8s.io/coredns/coredns", &["v1.12.1"], None),
    ("registry.k8s.io/metrics-server/metrics-server", &["v0.8.0"], None),
];

/// Splits an image reference into repository and tag.
pub(super) fn split_image(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        // A colon before a slash separates the registry's port.
        Some((repo, tag)) if !tag.contains('/') => (repo.trim_start_matches("docker.io/library/"), tag),
        _ => (image.trim_start_matches("docker.io/library/"), "latest"),
    }
}

impl ClusterState {
    /// Returns the value of a ConfigMap key.
    pub(super) fn config_value(&self, namespace: &str, reference: &ConfigMapKeyRef) -> Option<&str> {
        let map = self.config_maps.iter().find(|m| m.namespace == namespace && m.name == reference.map)?;
        map.data.get(&reference.key).map(String::as_str)
    }

    /// Returns why a container of this template would fail if it started now.
    pub(super) fn container_fault(&self, namespace: &str, template: &PodTemplate) -> Option<ContainerFault> {
        let (repo, tag) = split_image(&template.image);
        let Some((_, _, needs_host)) = IMAGES.iter().find(|(r, tags, _)| *r == repo && tags.contains(&tag)) else {
            return Some(ContainerFault::MissingImage);
        };
        for reference in &template.env {
            let ConfigMapKeyRef { map, key } = reference;
            if !self.config_maps.iter().any(|m| m.namespace == namespace && m.name == *map) {
                return Some(ContainerFault::ConfigError(format!("configmap \"{map}\" not found")));
            }
            let Some(value) = self.config_value(namespace, reference) else {
                return Some(ContainerFault::ConfigError(format!(
                    "couldn't find key {key} in ConfigMap {namespace}/{map}"
                )));
            };
            if *needs_host == Some(key.as_str()) && !self.resolves_host(namespace, value) {
                return Some(ContainerFault::UnknownHost(value.to_owned()));
            }
        }
        None
    }

    /// Returns whether the cluster's DNS resolves a host for a pod in `namespace`.
    fn resolves_host(&self, namespace: &str, host: &str) -> bool {
        let host = host.trim_end_matches(".cluster.local").trim_end_matches(".svc");
        let (name, ns) = host.split_once('.').unwrap_or((host, namespace));
        self.services.iter().any(|s| s.namespace == ns && s.name == name)
    }

    /// Records an event. An identical event of the same object is counted, as Kubernetes does.
    pub(super) fn record_event(
        &mut self,
        namespace: &str,
        object: &str,
        severity: EventSeverity,
        reason: &'static str,
        message: String,
    ) {
        let now = self.now;
        let same = |e: &&mut SimulatedEvent| {
            e.namespace == namespace && e.object == object && e.reason == reason && e.message == message
        };
        if let Some(known) = self.events.iter_mut().find(same) {
            known.last = now;
            known.count += 1;
            return;
        }
        // Kubernetes keeps events for an hour.
        self.events.retain(|e| now - e.last < 3600);
        self.events.push(SimulatedEvent {
            namespace: namespace.to_owned(),
            object: object.to_owned(),
            severity,
            reason,
            message,
            first: now,
            last: now,
            count: 1,
        });
    }
}

/// The letters that Kubernetes uses for generated names, chosen so that they cannot form words.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Generates a name part of `len` letters that is always the same for the same `seed` (FNV-1a).
pub(super) fn generate_letters(seed: &str, len: u32) -> String {
    let mut hash =
        seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    // The last byte hardly affects the high bits of FNV, so the hash is mixed: seeds that differ in one letter must give
    // different names.
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^= hash >> 29;
    let mut name = String::new();
    for _ in 0..len {
        name.push(char::from(LETTERS[usize::try_from(hash % 27).expect("less than 27")]));
        hash /= 27;
    }
    name
}

/// Returns the hash in the name of the ReplicaSet of a template. Equal templates have equal hashes, so that a rollback
/// keeps the pods that still exist.
pub(super) fn replica_set_hash(namespace: &str, app: &str, template: &PodTemplate) -> String {
    generate_letters(&format!("{namespace}/{app} {template:?}"), 9)
}

impl ClusterState {
    pub(super) fn find_pod(&self, namespace: &str, name: &str) -> Result<usize, SimulatedClusterError> {
        let at = self.pods.iter().position(|p| p.namespace == namespace && p.name == name);
        at.ok_or_else(|| not_found("pods", name))
    }

    pub(super) fn find_deployment(&self, namespace: &str, name: &str) -> Result<usize, SimulatedClusterError> {
        let at = self.deployments.iter().position(|d| d.namespace == namespace && d.name == name);
        at.ok_or_else(|| not_found("deployments.apps", name))
    }

    pub(super) fn find_config_map(&self, namespace: &str, name: &str) -> Result<usize, SimulatedClusterError> {
        let at = self.config_maps.iter().position(|m| m.namespace == namespace && m.name == name);
        at.ok_or_else(|| not_found("configmaps", name))
    }
}
