//! The simulated cluster as its MCP server sees it: one method for each kubectl command.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{
    cluster_error::{SimulatedClusterError, not_found},
    cluster_state::{self, ClusterState, ContainerInstance, PodStatus, PodTemplate, SimSeconds},
    quantity,
};

/// How far a rollout is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutStatus {
    /// Whether every pod is of the newest template and ready.
    pub done: bool,
    /// How many pods are of the newest template and ready.
    pub ready: u32,
    /// How many are wanted.
    pub replicas: u32,
    /// In the words of `kubectl rollout status`.
    pub message: String,
}

/// The simulated cluster. All answers are text as kubectl prints it.
pub struct SimulatedCluster {
    /// The time since the simulation began.
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
    /// A plain mutex: held for one call that only computes, never across an await.
    state: Mutex<ClusterState>,
}

impl std::fmt::Debug for SimulatedCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

impl Default for SimulatedCluster {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedCluster {
    /// A cluster that begins now and lives in real time.
    #[must_use]
    pub fn new() -> Self {
        let begun = Instant::now();
        Self::with_clock(jiff::Timestamp::now(), move || begun.elapsed())
    }

    /// A cluster that began at `start` and for which `clock` tells the time since then.
    #[must_use]
    pub fn with_clock(start: jiff::Timestamp, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), state: Mutex::new(ClusterState::at_start(start.as_second())) }
    }

    /// Brings the state to the present and lets `f` look at it or change it.
    fn with_current_state<R>(&self, f: impl FnOnce(&mut ClusterState) -> R) -> R {
        let now = SimSeconds::try_from((self.clock)().as_secs()).unwrap_or(SimSeconds::MAX);
        let mut state = self.state.lock();
        state.advance_to(now);
        let result = f(&mut state);
        state.run_until_stable();
        result
    }

    /// `kubectl get namespaces`.
    #[must_use]
    pub fn list_namespaces(&self) -> String {
        self.with_current_state(|s| s.print_namespaces())
    }

    /// `kubectl get nodes`, with what is requested of them.
    #[must_use]
    pub fn list_nodes(&self) -> String {
        self.with_current_state(|s| s.print_nodes())
    }

    /// `kubectl get pods`, of one namespace or of all.
    #[must_use]
    pub fn list_pods(&self, namespace: Option<&str>) -> String {
        self.with_current_state(|s| s.print_pods(namespace))
    }

    /// `kubectl get deployments`, of one namespace or of all.
    #[must_use]
    pub fn list_deployments(&self, namespace: Option<&str>) -> String {
        self.with_current_state(|s| s.print_deployments(namespace))
    }

    /// `kubectl get services`, of one namespace or of all.
    #[must_use]
    pub fn list_services(&self, namespace: Option<&str>) -> String {
        self.with_current_state(|s| s.print_services(namespace))
    }

    /// `kubectl get configmaps`, of one namespace or of all.
    #[must_use]
    pub fn list_config_maps(&self, namespace: Option<&str>) -> String {
        self.with_current_state(|s| s.print_config_maps(namespace))
    }

    /// `kubectl get events`, of one namespace or of all; the newest last.
    #[must_use]
    pub fn list_events(&self, namespace: Option<&str>) -> String {
        self.with_current_state(|s| s.print_events(namespace))
    }

    /// One pod as YAML, in short.
    pub fn get_pod(&self, namespace: &str, name: &str) -> Result<String, SimulatedClusterError> {
        self.with_current_state(|s| {
            let p = &s.pods[s.find_pod(namespace, name)?];
            let env: Vec<String> = p
                .template
                .env
                .iter()
                .map(|e| {
                    format!(
                        "\n    - name: {0}\n      valueFrom: {{configMapKeyRef: {{name: {1}, key: {0}}}}}",
                        e.key, e.map
                    )
                })
                .collect();
            let waiting = if p.is_ready() { String::new() } else { format!("\n    reason: {}", p.status_text()) };
            Ok(format!(
                "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {}\n  namespace: {}\n  labels: {{app: {}, \
                 pod-template-hash: {}}}\nspec:\n  nodeName: {}\n  containers:\n  - name: {}\n    image: {}\n    \
                 ports: [{{containerPort: {}}}]\n    resources: {{requests: {{cpu: {}, memory: {}}}}}{}{}\nstatus:\n  \
                 podIP: {}\n  containerStatuses:\n  - name: {}\n    ready: {}\n    restartCount: {}{waiting}",
                p.name,
                p.namespace,
                p.app,
                p.set,
                p.node.as_deref().unwrap_or("null"),
                p.app,
                p.template.image,
                p.template.port,
                quantity::format_cpu(p.template.cpu),
                quantity::format_memory(p.template.memory),
                if env.is_empty() { "" } else { "\n    env:" },
                env.concat(),
                p.ip.as_deref().unwrap_or("null"),
                p.app,
                p.is_ready(),
                p.restarts,
            ))
        })
    }

    /// `kubectl logs`: the last `tail` lines, of this run of the container or of the one before.
    pub fn read_pod_log(
        &self,
        namespace: &str,
        name: &str,
        tail: usize,
        instance: ContainerInstance,
    ) -> Result<String, SimulatedClusterError> {
        self.with_current_state(|s| {
            let pod = &s.pods[s.find_pod(namespace, name)?];
            s.read_log(pod, tail, instance)
        })
    }

    /// `kubectl get configmap -o yaml`.
    pub fn get_config_map(&self, namespace: &str, name: &str) -> Result<String, SimulatedClusterError> {
        self.with_current_state(|s| {
            let map = &s.config_maps[s.find_config_map(namespace, name)?];
            let data: Vec<String> = map
                .data
                .iter()
                .map(|(k, v)| {
                    if v.contains('\n') {
                        format!("  {k}: |\n    {}", v.replace('\n', "\n    "))
                    } else {
                        format!("  {k}: {v}")
                    }
                })
                .collect();
            let data = data.join("\n");
            Ok(format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: {namespace}\ndata:\n{data}"
            ))
        })
    }

    /// `kubectl describe`, of a pod, deployment, node, service or ConfigMap.
    pub fn describe_object(&self, kind: &str, namespace: &str, name: &str) -> Result<String, SimulatedClusterError> {
        let lower = kind.to_ascii_lowercase();
        match lower.as_str() {
            "pod" | "pods" | "po" => {
                self.with_current_state(|s| Ok(s.describe_pod(&s.pods[s.find_pod(namespace, name)?])))
            }
            "deployment" | "deployments" | "deploy" => self
                .with_current_state(|s| Ok(s.describe_deployment(&s.deployments[s.find_deployment(namespace, name)?]))),
            "node" | "nodes" | "no" => self.with_current_state(|s| {
                let node = s.nodes.iter().find(|n| n.name == name);
                node.map(|n| s.describe_node(n)).ok_or_else(|| not_found("nodes", name))
            }),
            "service" | "services" | "svc" => self.with_current_state(|s| {
                let service = s.services.iter().find(|v| v.namespace == namespace && v.name == name);
                service.map(|v| s.describe_service(v)).ok_or_else(|| not_found("services", name))
            }),
            "configmap" | "configmaps" | "cm" => self.get_config_map(namespace, name),
            _ => Err(SimulatedClusterError::new(format!("error: the server doesn't have a resource type \"{kind}\""))),
        }
    }

    /// `kubectl rollout status`, without waiting.
    pub fn rollout_status(&self, namespace: &str, name: &str) -> Result<RolloutStatus, SimulatedClusterError> {
        self.with_current_state(|s| {
            let d = &s.deployments[s.find_deployment(namespace, name)?];
            let set = cluster_state::replica_set_hash(namespace, name, d.template());
            let pods = || s.pods.iter().filter(|p| p.namespace == namespace && p.app == name);
            let updated = pods().filter(|p| p.set == set).count();
            let ready = pods().filter(|p| p.set == set && p.is_ready()).count();
            let older = pods().count() - updated;
            let replicas = d.replicas;
            let waiting = format!("Waiting for deployment \"{name}\" rollout to finish");
            let done = older == 0 && ready == replicas as usize;
            let message = match () {
                () if done => format!("deployment \"{name}\" successfully rolled out"),
                () if updated < replicas as usize => {
                    format!("{waiting}: {updated} out of {replicas} new replicas have been updated...")
                }
                () if older > 0 => format!("{waiting}: {older} old replicas are pending termination..."),
                () => format!("{waiting}: {ready} of {replicas} updated replicas are available..."),
            };
            Ok(RolloutStatus { done, ready: u32::try_from(ready).unwrap_or(replicas), replicas, message })
        })
    }

    /// `kubectl scale deployment`.
    pub fn scale_deployment(
        &self,
        namespace: &str,
        name: &str,
        replicas: u32,
    ) -> Result<String, SimulatedClusterError> {
        if replicas > MAX_REPLICAS {
            return Err(SimulatedClusterError::new(format!(
                "error: the simulated cluster takes at most {MAX_REPLICAS} replicas, not {replicas}"
            )));
        }
        self.with_current_state(|s| {
            let at = s.find_deployment(namespace, name)?;
            s.deployments[at].replicas = replicas;
            Ok(format!("deployment.apps/{name} scaled"))
        })
    }

    /// `kubectl rollout restart deployment`.
    pub fn restart_deployment(&self, namespace: &str, name: &str) -> Result<String, SimulatedClusterError> {
        self.with_current_state(|s| {
            let now = s.now;
            s.change_pod_template(namespace, name, |t| t.restarted = Some(now))?;
            Ok(format!("deployment.apps/{name} restarted"))
        })
    }

    /// `kubectl rollout undo deployment`.
    pub fn roll_back_deployment(&self, namespace: &str, name: &str) -> Result<String, SimulatedClusterError> {
        self.with_current_state(|s| {
            let at = s.find_deployment(namespace, name)?;
            let d = &mut s.deployments[at];
            let Some(before) = d.templates.len().checked_sub(2) else {
                return Err(SimulatedClusterError::new(format!(
                    "error: no rollout history found for deployment \"{name}\""
                )));
            };
            let template = d.templates.remove(before);
            d.templates.push(template);
            d.revision += 1;
            Ok(format!("deployment.apps/{name} rolled back"))
        })
    }

    /// `kubectl set image deployment`.
    pub fn set_deployment_image(
        &self,
        namespace: &str,
        name: &str,
        image: &str,
    ) -> Result<String, SimulatedClusterError> {
        let valid = |c: char| c.is_ascii_alphanumeric() || "./:-_@".contains(c);
        if image.is_empty() || image.len() > 255 || !image.chars().all(valid) {
            return Err(SimulatedClusterError::new(format!("error: couldn't parse image name \"{image}\"")));
        }
        self.with_current_state(|s| {
            s.change_pod_template(namespace, name, |t| image.clone_into(&mut t.image))?;
            Ok(format!("deployment.apps/{name} image updated"))
        })
    }

    /// `kubectl set resources deployment --requests`; what is `None` stays.
    pub fn set_deployment_resources(
        &self,
        namespace: &str,
        name: &str,
        cpu: Option<&str>,
        memory: Option<&str>,
    ) -> Result<String, SimulatedClusterError> {
        let wrong = |what: &str| {
            SimulatedClusterError::new(format!("error: \"{what}\" is not a quantity like 250m, 512Mi or 2Gi"))
        };
        let cpu = cpu.map(|c| quantity::parse_cpu(c).ok_or_else(|| wrong(c))).transpose()?;
        let memory = memory.map(|m| quantity::parse_memory(m).ok_or_else(|| wrong(m))).transpose()?;
        self.with_current_state(|s| {
            s.change_pod_template(namespace, name, |t| {
                t.cpu = cpu.unwrap_or(t.cpu);
                t.memory = memory.unwrap_or(t.memory);
            })?;
            Ok(format!("deployment.apps/{name} resource requirements updated"))
        })
    }

    /// `kubectl patch configmap`: sets one key. Containers see it when they start next.
    pub fn set_config_map_key(
        &self,
        namespace: &str,
        name: &str,
        key: &str,
        value: &str,
    ) -> Result<String, SimulatedClusterError> {
        let valid = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if key.is_empty() || key.len() > 253 || !key.chars().all(valid) {
            return Err(SimulatedClusterError::new(format!(
                "error: \"{key}\" is not a valid key name for a ConfigMap"
            )));
        }
        if value.len() > 64 * 1024 {
            return Err(SimulatedClusterError::new("error: the simulated cluster takes values of at most 64 KiB"));
        }
        self.with_current_state(|s| {
            let at = s.find_config_map(namespace, name)?;
            let data = &mut s.config_maps[at].data;
            if data.get(key).is_some_and(|old| old == value) {
                return Ok(format!("configmap/{name} patched (no change)"));
            }
            data.insert(key.to_owned(), value.to_owned());
            // The kubelet watches the ConfigMaps that its pods wait for, and tries again at once.
            let soon = s.now + 1;
            for pod in s.pods.iter_mut().filter(|p| p.namespace == namespace) {
                if matches!(pod.status, PodStatus::ConfigError { .. }) {
                    pod.status = PodStatus::ConfigError { retry: soon };
                }
            }
            Ok(format!("configmap/{name} patched"))
        })
    }

    /// `kubectl delete pod`.
    pub fn delete_pod(&self, namespace: &str, name: &str) -> Result<String, SimulatedClusterError> {
        self.with_current_state(|s| {
            s.find_pod(namespace, name)?;
            s.remove_pod(namespace, name);
            Ok(format!("pod \"{name}\" deleted from {namespace} namespace"))
        })
    }
}

/// The most pods of one deployment: enough to play with, and no way to fill the memory.
const MAX_REPLICAS: u32 = 50;

impl ClusterState {
    /// Gives a deployment a changed pod template; one that it had before comes back to the top, as a ReplicaSet does.
    fn change_pod_template(
        &mut self,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut PodTemplate),
    ) -> Result<(), SimulatedClusterError> {
        /// How many templates are kept to roll back to, as Kubernetes' `revisionHistoryLimit`.
        const HISTORY: usize = 10;
        let at = self.find_deployment(namespace, name)?;
        let d = &mut self.deployments[at];
        let mut template = d.template().clone();
        change(&mut template);
        if template == *d.template() {
            return Ok(());
        }
        d.templates.retain(|t| *t != template);
        d.templates.push(template);
        d.templates.drain(..d.templates.len().saturating_sub(HISTORY));
        d.revision += 1;
        Ok(())
    }
}
