//! The simulated cluster as its MCP server sees it: one method for each kubectl command.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    cluster_error::{SimulatedClusterError, not_found},
    cluster_state::{
        self, ClusterState, ConfigMapKeyRef, ContainerInstance, PodStatus, PodTemplate, SimSeconds, replica_set_hash,
    },
    quantity,
};

/// The state of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutStatus {
    /// Whether all pods have the newest template and are ready.
    pub done: bool,
    /// The number of ready pods with the newest template.
    pub ready: u32,
    /// The desired number of pods.
    pub replicas: u32,
    /// The message of `kubectl rollout status`.
    pub message: String,
}

/// The simulated cluster. All results are text as kubectl prints it.
pub struct SimulatedCluster {
    /// Returns the time since the simulation started.
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
    /// A blocking mutex, because a call only computes while it holds the lock.
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
    /// Creates a cluster that starts now and runs in real time.
    #[must_use]
    pub fn new() -> Self {
        let started = Instant::now();
        Self::with_clock(jiff::Timestamp::now(), move || started.elapsed())
    }

    /// Creates a cluster that started at `start`, where `clock` returns the time since then.
    #[must_use]
    pub fn with_clock(start: jiff::Timestamp, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), state: Mutex::new(ClusterState::at_start(start.as_second())) }
    }

    /// Advances the state to the current time, calls `f` with it, and runs the controllers.
    fn with_current_state<R>(&self, f: impl FnOnce(&mut ClusterState) -> R) -> R {
        let now = SimSeconds::try_from((self.clock)().as_secs()).unwrap_or(SimSeconds::MAX);
        let mut state = self.state.lock();
        state.advance_to(now);
        let result = f(&mut state);
        state.run_until_stable();
        result
    }

    /// Returns the output of `kubectl get namespaces`.
    #[must_use]
    pub fn list_namespaces(&self) -> String {
        self.with_current_state(|s| s.print_namespaces())
    }

    /// Returns the output of `kubectl get nodes`, with the requested resources.
    #[must_use]
    pub fn list_nodes(&self) -> String {
        self.with_current_state(|s| s.print_nodes())
    }

    /// Returns the output of `kubectl get pods` for one namespace or all.
    #[must_use]
    pub fn list_pods(&self, namespace: Option<&str>) -> String {
        self.with_current_state(|s| s.print_pods(namespace))
    }

    /// Returns the output of `kubectl get deployments` for one namespace or all.
    #[must_use]
    pub fn list_deployments(&self, namespace: Option<&str>) -> String {
        self.with_current_state(|s| s.print_deployments(namespace))
    }

    /// Returns the output of `kubectl get services` for one namespace or all.
    #[must_use]
    pub fn list_services(&self, namespace: Option<&str>) -> String {
        self.with_current_state(|s| s.print_services(namespace))
    }

    /// Returns the output of `kubectl get configmaps` for one namespace or all.
    #[must_use]
    pub fn list_config_maps(&self, namespace: Option<&str>) -> String {
        self.with_current_state(|s| s.print_config_maps(namespace))
    }

    /// Returns the output of `kubectl get events` for one namespace or all, newest last.
    #[must_use]
    pub fn list_events(&self, namespace: Option<&str>) -> String {
        self.with_current_state(|s| s.print_events(namespace))
    }

    /// Returns the main fields of a pod as YAML.
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

    /// Returns the last `tail` lines of `kubectl logs`.
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

    /// Returns the output of `kubectl get configmap -o yaml`.
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

    /// Returns the main fields of a deployment as YAML.
    pub fn get_deployment(&self, namespace: &str, name: &str) -> Result<String, SimulatedClusterError> {
        self.with_current_state(|s| {
            let deployment = &s.deployments[s.find_deployment(namespace, name)?];
            let (replicas, template) = (deployment.replicas, s.print_pod_template(name, deployment.template()));
            Ok(format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  \
                 replicas: {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n{template}"
            ))
        })
    }

    /// Returns the ReplicaSets of a deployment as YAML, which hold its pod templates, the current one last.
    pub fn get_rollout_history(&self, namespace: &str, name: &str) -> Result<String, SimulatedClusterError> {
        self.with_current_state(|s| {
            let deployment = &s.deployments[s.find_deployment(namespace, name)?];
            let count = deployment.templates.len();
            let sets = deployment.templates.iter().enumerate().map(|(at, template)| {
                // A ReplicaSet that becomes current again gets a new number, so that the numbers have no gaps at the end.
                let revision = (deployment.revision as usize + 1 + at).saturating_sub(count);
                let hash = replica_set_hash(namespace, name, template);
                let template = s.print_pod_template(name, template);
                format!(
                    "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata:\n  name: {name}-{hash}\n  namespace: {namespace}\n  \
                     annotations: {{deployment.kubernetes.io/revision: \"{revision}\"}}\nspec:\n{template}"
                )
            });
            Ok(sets.collect::<Vec<_>>().join("---\n"))
        })
    }

    /// Returns the output of `kubectl describe` for a pod, deployment, node, service or ConfigMap.
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

    /// Returns the current state of a rollout, as `kubectl rollout status` does without waiting.
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

    /// Sets the number of replicas, as `kubectl scale deployment` does.
    pub fn scale_deployment(
        &self,
        namespace: &str,
        name: &str,
        replicas: u32,
    ) -> Result<String, SimulatedClusterError> {
        if replicas > MAX_REPLICAS {
            return Err(SimulatedClusterError::new(format!(
                "error: the simulated cluster supports at most {MAX_REPLICAS} replicas, not {replicas}"
            )));
        }
        self.with_current_state(|s| {
            let at = s.find_deployment(namespace, name)?;
            s.deployments[at].replicas = replicas;
            Ok(format!("deployment.apps/{name} scaled"))
        })
    }

    /// Restarts a deployment, as `kubectl rollout restart` does.
    pub fn restart_deployment(&self, namespace: &str, name: &str) -> Result<String, SimulatedClusterError> {
        self.with_current_state(|s| {
            let now = s.now;
            s.change_pod_template(namespace, name, |t| t.restarted = Some(now))?;
            Ok(format!("deployment.apps/{name} restarted"))
        })
    }

    /// Returns a deployment to its previous template, as `kubectl rollout undo` does.
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

    /// Sets the image of a deployment, as `kubectl set image` does.
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

    /// Sets resource requests, as `kubectl set resources --requests` does. `None` keeps a value.
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

    /// Sets one key, as `kubectl patch configmap` does. Containers read it when they start.
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
            return Err(SimulatedClusterError::new("error: the simulated cluster supports values of at most 64 KiB"));
        }
        self.with_current_state(|s| {
            let at = s.find_config_map(namespace, name)?;
            let data = &mut s.config_maps[at].data;
            if data.get(key).is_some_and(|old| old == value) {
                return Ok(format!("configmap/{name} patched (no change)"));
            }
            data.insert(key.to_owned(), value.to_owned());
            // The kubelet watches the ConfigMaps that its pods wait for, and retries immediately.
            let soon = s.now + 1;
            for pod in s.pods.iter_mut().filter(|p| p.namespace == namespace) {
                if matches!(pod.status, PodStatus::ConfigError { .. }) {
                    pod.status = PodStatus::ConfigError { retry: soon };
                }
            }
            Ok(format!("configmap/{name} patched"))
        })
    }

    /// Deletes a pod, as `kubectl delete pod` does.
    pub fn delete_pod(&self, namespace: &str, name: &str) -> Result<String, SimulatedClusterError> {
        self.with_current_state(|s| {
            s.find_pod(namespace, name)?;
            s.remove_pod(namespace, name);
            Ok(format!("pod \"{name}\" deleted from {namespace} namespace"))
        })
    }
}

/// Limit for the pods of one deployment, so that memory stays bounded.
const MAX_REPLICAS: u32 = 50;

impl ClusterState {
    /// Returns a pod template as the YAML below a `spec`.
    fn print_pod_template(&self, name: &str, template: &PodTemplate) -> String {
        let annotations = template.restarted.map_or_else(String::new, |restarted| {
            let at = self.log_timestamp(restarted);
            format!(", annotations: {{kubectl.kubernetes.io/restartedAt: \"{at}\"}}")
        });
        let mut text = format!(
            "  template:\n    metadata: {{labels: {{app: {name}}}{annotations}}}\n    spec:\n      containers:\n      \
             - name: {name}\n        image: {}\n        ports: [{{containerPort: {}}}]\n        \
             resources: {{requests: {{cpu: {}, memory: {}}}}}\n",
            template.image,
            template.port,
            quantity::format_cpu(template.cpu),
            quantity::format_memory(template.memory),
        );
        if !template.env.is_empty() {
            text.push_str("        env:\n");
        }
        for ConfigMapKeyRef { map, key } in &template.env {
            let _ = writeln!(
                text,
                "        - name: {key}\n          valueFrom: {{configMapKeyRef: {{name: {map}, key: {key}}}}}"
            );
        }
        text
    }

    /// Changes the pod template of a deployment. A template from its history becomes current again, as a ReplicaSet does.
    fn change_pod_template(
        &mut self,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut PodTemplate),
    ) -> Result<(), SimulatedClusterError> {
        /// The number of templates that are kept for a rollback, as with `revisionHistoryLimit`.
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
