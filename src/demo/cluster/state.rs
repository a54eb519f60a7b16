//! What is in the simulated cluster. Plain data; [`super::control`] moves it, [`super::print`] shows it.

use std::collections::BTreeMap;

/// Seconds since the simulation began; what was there before has negative times.
pub(super) type Secs = i64;

/// The whole cluster.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The simulation's present. Only [`State::advance`] moves it.
    pub now: Secs,
    /// The wall-clock time (Unix seconds) at which `now` was 0; for the timestamps of log lines.
    pub start_unix: i64,
    pub namespaces: Vec<Namespace>,
    pub nodes: Vec<Node>,
    pub deployments: Vec<Deployment>,
    pub pods: Vec<Pod>,
    pub services: Vec<Service>,
    pub config_maps: Vec<ConfigMap>,
    pub events: Vec<Event>,
    /// Counts the pods ever made, so that names and addresses differ and are the same in every run.
    pub serial: u32,
}

#[derive(Debug)]
pub(super) struct Namespace {
    pub name: String,
    pub created: Secs,
}

#[derive(Debug)]
pub(super) struct Node {
    pub name: String,
    pub ip: String,
    pub control_plane: bool,
    pub cpu: u64,
    pub memory: u64,
    pub created: Secs,
}

#[derive(Debug)]
pub(super) struct Deployment {
    pub namespace: String,
    pub name: String,
    pub created: Secs,
    pub replicas: u32,
    /// Counts the changes of the template.
    pub revision: u32,
    /// The pod templates it has had, the present one last. Never empty.
    pub templates: Vec<Template>,
}

impl Deployment {
    /// The pod template in force.
    pub fn template(&self) -> &Template {
        self.templates.last().expect("a deployment is made with a template, and none is ever taken away")
    }
}

/// What the pods of a deployment are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    pub image: String,
    pub port: u16,
    /// Thousandths of a core.
    pub cpu: u64,
    /// Mebibytes.
    pub memory: u64,
    pub env: Vec<ConfigRef>,
    /// What `rollout restart` writes, so that the template differs and the pods are made anew.
    pub restarted: Option<Secs>,
}

/// An environment variable that is taken from a ConfigMap when the container starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConfigRef {
    pub map: String,
    /// The key, which is the variable's name too.
    pub key: String,
}

#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub namespace: String,
    pub name: String,
    /// The deployment that controls it.
    pub app: String,
    /// The hash in its ReplicaSet's name.
    pub set: String,
    pub template: Template,
    pub created: Secs,
    pub node: Option<String>,
    pub ip: Option<String>,
    pub status: Status,
    pub restarts: u32,
    pub last_restart: Option<Secs>,
    /// The host that it could not find when it last crashed.
    pub crashed_on: Option<String>,
}

/// Where a pod stands. The times are when the next thing happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Status {
    /// No node has room for it.
    Unscheduled { retry: Secs },
    /// `ContainerCreating`.
    Starting { until: Secs },
    /// Ready.
    Running { since: Secs },
    /// `ImagePullBackOff`.
    NoImage { retry: Secs },
    /// `CreateContainerConfigError`.
    NoConfig { retry: Secs },
    /// `CrashLoopBackOff`.
    Crashing { retry: Secs },
}

impl Pod {
    pub fn ready(&self) -> bool {
        matches!(self.status, Status::Running { .. })
    }

    /// When the next thing happens to it by itself.
    pub fn due(&self) -> Option<Secs> {
        match self.status {
            Status::Running { .. } => None,
            Status::Starting { until } => Some(until),
            Status::Unscheduled { retry }
            | Status::NoImage { retry }
            | Status::NoConfig { retry }
            | Status::Crashing { retry } => Some(retry),
        }
    }

    /// The STATUS column.
    pub fn status_word(&self) -> &'static str {
        match self.status {
            Status::Unscheduled { .. } => "Pending",
            Status::Starting { .. } => "ContainerCreating",
            Status::Running { .. } => "Running",
            Status::NoImage { .. } => "ImagePullBackOff",
            Status::NoConfig { .. } => "CreateContainerConfigError",
            Status::Crashing { .. } => "CrashLoopBackOff",
        }
    }
}

#[derive(Debug)]
pub(super) struct Service {
    pub namespace: String,
    pub name: String,
    pub ip: String,
    pub port: u16,
    pub created: Secs,
}

#[derive(Debug)]
pub(super) struct ConfigMap {
    pub namespace: String,
    pub name: String,
    pub created: Secs,
    pub data: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(super) struct Event {
    pub namespace: String,
    /// `pod/name`.
    pub object: String,
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
    pub first: Secs,
    pub last: Secs,
    pub count: u32,
}

/// Why a container does not start, or does not stay.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The registry does not have the image.
    Image,
    /// In words, as the kubelet says it.
    Config(String),
    /// The host that the program needs and the cluster's DNS does not know.
    Host(String),
}

/// The images that the simulated registries have: repository, tags, and the variable that must name a Service.
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
        // A colon before a slash belongs to a registry's port.
        Some((repo, tag)) if !tag.contains('/') => (repo.trim_start_matches("docker.io/library/"), tag),
        _ => (image.trim_start_matches("docker.io/library/"), "latest"),
    }
}

impl State {
    /// The value of a ConfigMap's key.
    pub fn config_value(&self, namespace: &str, reference: &ConfigRef) -> Option<&str> {
        let map = self.config_maps.iter().find(|m| m.namespace == namespace && m.name == reference.map)?;
        map.data.get(&reference.key).map(String::as_str)
    }

    /// What would go wrong if a container of this template started now.
    pub fn fault(&self, namespace: &str, template: &Template) -> Option<Fault> {
        let (repo, tag) = split_image(&template.image);
        let Some((_, _, needs_host)) = IMAGES.iter().find(|(r, tags, _)| *r == repo && tags.contains(&tag)) else {
            return Some(Fault::Image);
        };
        for reference in &template.env {
            let ConfigRef { map, key } = reference;
            if !self.config_maps.iter().any(|m| m.namespace == namespace && m.name == *map) {
                return Some(Fault::Config(format!("configmap \"{map}\" not found")));
            }
            let Some(value) = self.config_value(namespace, reference) else {
                return Some(Fault::Config(format!("couldn't find key {key} in ConfigMap {namespace}/{map}")));
            };
            if *needs_host == Some(key.as_str()) && !self.resolves(namespace, value) {
                return Some(Fault::Host(value.to_owned()));
            }
        }
        None
    }

    /// Whether the cluster's DNS knows the host, asked from a pod in `namespace`.
    fn resolves(&self, namespace: &str, host: &str) -> bool {
        let host = host.trim_end_matches(".cluster.local").trim_end_matches(".svc");
        let (name, ns) = host.split_once('.').unwrap_or((host, namespace));
        self.services.iter().any(|s| s.namespace == ns && s.name == name)
    }

    /// Notes an event; one that says the same about the same object is counted, as Kubernetes does it.
    pub fn note(&mut self, namespace: &str, object: &str, warning: bool, reason: &'static str, message: String) {
        let now = self.now;
        let same = |e: &&mut Event| {
            e.namespace == namespace && e.object == object && e.reason == reason && e.message == message
        };
        if let Some(known) = self.events.iter_mut().find(same) {
            known.last = now;
            known.count += 1;
            return;
        }
        // Kubernetes keeps events for an hour.
        self.events.retain(|e| now - e.last < 3600);
        let (namespace, object) = (namespace.to_owned(), object.to_owned());
        self.events.push(Event { namespace, object, warning, reason, message, first: now, last: now, count: 1 });
    }
}

/// Letters for generated names: those that Kubernetes uses, which cannot spell a word.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A generated name part of `len` letters that is the same for the same `seed` in every run (FNV-1a).
pub(super) fn letters(seed: &str, len: u32) -> String {
    let mut hash =
        seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    // FNV's last byte hardly reaches the high bits; mix, so that names that differ in one letter look unlike.
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

/// The hash in the name of the ReplicaSet for a template: the same template gives the same set, so that rolling back
/// finds the pods that are still there.
pub(super) fn set_hash(namespace: &str, app: &str, template: &Template) -> String {
    letters(&format!("{namespace}/{app} {template:?}"), 9)
}
