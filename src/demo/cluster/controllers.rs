//! The controllers of the simulated cluster: the deployment controller, the scheduler and the kubelet, each simplified.
//!
//! Time advances from one due change to the next, never by ticks, so that reads in between make no difference.

use super::cluster_state::{
    ClusterState, ContainerFault,
    EventSeverity::{Normal, Warning},
    PodStatus, PodTemplate, SimSeconds, SimulatedPod, generate_letters, replica_set_hash, split_image,
};

/// Time from scheduled to started.
const STARTUP: SimSeconds = 2;
/// Retry interval after a failure, and the longest back-off of a crash loop.
const RETRY: SimSeconds = 300;
/// Longest time span that is simulated after a long pause between reads.
const CATCH_UP: SimSeconds = 86_400;

impl ClusterState {
    /// Applies all changes that are due until `to`.
    pub(super) fn advance_to(&mut self, to: SimSeconds) {
        self.now = self.now.max(to - CATCH_UP);
        while let Some(due) = self.pods.iter().filter_map(SimulatedPod::next_change_at).min()
            && due <= to
        {
            self.now = self.now.max(due);
            self.run_until_stable();
        }
        self.now = self.now.max(to);
        self.run_until_stable();
    }

    /// Runs the controllers at the current time until none of them changes anything.
    pub(super) fn run_until_stable(&mut self) {
        loop {
            let changed = self.reconcile_deployments() | self.schedule_pods() | self.run_kubelets();
            if !changed {
                return;
            }
        }
    }

    /// Performs rolling updates with a surge of one pod and none unavailable. Broken pods of older templates are removed
    /// first.
    fn reconcile_deployments(&mut self) -> bool {
        let mut changed = false;
        for i in 0..self.deployments.len() {
            let d = &self.deployments[i];
            let namespace = d.namespace.clone();
            let app = d.name.clone();
            let replicas = d.replicas as usize;
            let template = d.template().clone();
            let set = replica_set_hash(&namespace, &app, &template);
            let of_set = |p: &SimulatedPod| p.namespace == namespace && p.app == app && p.set == set;
            let of_older = |p: &SimulatedPod| p.namespace == namespace && p.app == app && p.set != set;

            let ready = self.pods.iter().filter(|p| of_set(p) && p.is_ready()).count().min(replicas);
            let mut keep = replicas - ready;
            let surplus: Vec<String> = self
                .pods
                .iter()
                .filter(|p| of_older(p))
                .filter(|p| {
                    let stays = p.is_ready() && keep > 0;
                    keep -= usize::from(stays);
                    !stays
                })
                .map(|p| p.name.clone())
                .collect();
            for name in &surplus {
                self.remove_pod(&namespace, name);
                changed = true;
            }

            let older = self.pods.iter().filter(|p| of_older(p)).count();
            let wanted = if older == 0 { replicas } else { replicas.min(replicas + 1 - older) };
            let have = self.pods.iter().filter(|p| of_set(p)).count();
            if have == wanted {
                continue;
            }
            changed = true;
            let direction = if wanted > have { "up" } else { "down" };
            self.record_event(
                &namespace,
                &format!("deployment/{app}"),
                Normal,
                "ScalingReplicaSet",
                format!("Scaled {direction} replica set {app}-{set} from {have} to {wanted}"),
            );
            for _ in have..wanted {
                let pod = self.create_pod(&namespace, &app, &template);
                let message = format!("Created pod: {}", pod.name);
                self.record_event(&namespace, &format!("replicaset/{app}-{set}"), Normal, "SuccessfulCreate", message);
                self.pods.push(pod);
            }
            for _ in wanted..have {
                // As the ReplicaSet controller does: pods that are not ready first, then the newest.
                let victim = self
                    .pods
                    .iter()
                    .filter(|p| of_set(p))
                    .max_by_key(|p| (!p.is_ready(), p.created))
                    .map(|p| p.name.clone());
                if let Some(name) = victim {
                    self.remove_pod(&namespace, &name);
                }
            }
        }
        changed
    }

    /// Creates a pod of this template that is not scheduled yet.
    pub(super) fn create_pod(&mut self, namespace: &str, app: &str, template: &PodTemplate) -> SimulatedPod {
        self.serial += 1;
        let set = replica_set_hash(namespace, app, template);
        let suffix = generate_letters(&format!("{namespace}/{app}-{set} {}", self.serial), 5);
        SimulatedPod {
            namespace: namespace.to_owned(),
            name: format!("{app}-{set}-{suffix}"),
            app: app.to_owned(),
            set,
            template: template.clone(),
            created: self.now,
            node: None,
            ip: None,
            status: PodStatus::Unscheduled { retry: self.now },
            restarts: 0,
            last_restart: None,
            crashed_on: None,
        }
    }

    /// Removes a pod. Its events are kept for an hour.
    pub(super) fn remove_pod(&mut self, namespace: &str, name: &str) {
        let Some(at) = self.pods.iter().position(|p| p.namespace == namespace && p.name == name) else { return };
        let pod = self.pods.remove(at);
        if pod.is_ready() {
            let message = format!("Stopping container {}", pod.app);
            self.record_event(namespace, &format!("pod/{name}"), Normal, "Killing", message);
        }
    }

    /// Returns the suitable node with the most free memory.
    pub(super) fn pick_node(&self, namespace: &str, template: &PodTemplate) -> Option<String> {
        self.nodes
            .iter()
            .filter(|n| !n.control_plane || namespace == "kube-system")
            .filter_map(|n| {
                let (cpu, memory) = self.requested_resources(&n.name);
                let free = n.memory.checked_sub(memory + template.memory)?;
                (cpu + template.cpu <= n.cpu).then_some((free, n))
            })
            // The first of equal nodes, where `max_by_key` would return the last.
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
            .map(|(_, n)| n.name.clone())
    }

    /// Returns the CPU and memory that the pods on a node request.
    pub(super) fn requested_resources(&self, node: &str) -> (u64, u64) {
        let on_node = self.pods.iter().filter(|p| p.node.as_deref() == Some(node));
        on_node.fold((0, 0), |(cpu, memory), p| (cpu + p.template.cpu, memory + p.template.memory))
    }

    fn schedule_pods(&mut self) -> bool {
        let mut changed = false;
        for i in 0..self.pods.len() {
            let PodStatus::Unscheduled { retry } = self.pods[i].status else { continue };
            let pod = &self.pods[i];
            let namespace = pod.namespace.clone();
            let name = pod.name.clone();
            let object = format!("pod/{name}");
            if let Some(node) = self.pick_node(&namespace, &pod.template) {
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                self.record_event(&namespace, &object, Normal, "Scheduled", message);
                let until = self.now + STARTUP;
                let ip = self.allocate_pod_ip(&node);
                let pod = &mut self.pods[i];
                (pod.node, pod.ip, pod.status) = (Some(node), Some(ip), PodStatus::Starting { until });
                changed = true;
            } else if retry <= self.now {
                let message = self.explain_unschedulable(&namespace, &pod.template);
                self.record_event(&namespace, &object, Warning, "FailedScheduling", message);
                self.pods[i].status = PodStatus::Unscheduled { retry: self.now + RETRY };
            }
        }
        changed
    }

    /// Returns the scheduler's message for a pod that no node can run.
    pub(super) fn explain_unschedulable(&self, namespace: &str, template: &PodTemplate) -> String {
        let all = self.nodes.len();
        let (mut tainted, mut memory, mut cpu) = (0, 0, 0);
        for node in &self.nodes {
            if node.control_plane && namespace != "kube-system" {
                tainted += 1;
                continue;
            }
            let used = self.requested_resources(&node.name);
            memory += usize::from(used.1 + template.memory > node.memory);
            cpu += usize::from(used.0 + template.cpu > node.cpu);
        }
        let counts = [
            (tainted, "node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }"),
            (cpu, "Insufficient cpu"),
            (memory, "Insufficient memory"),
        ];
        let reasons: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, r)| format!("{n} {r}")).collect();
        format!("0/{all} nodes are available: {}.", reasons.join(", "))
    }

    /// Allocates a pod IP address on a node.
    pub(super) fn allocate_pod_ip(&mut self, node: &str) -> String {
        self.serial += 1;
        let subnet = self.nodes.iter().position(|n| n.name == node).unwrap_or(0);
        format!("10.42.{subnet}.{}", self.serial % 250 + 2)
    }

    fn run_kubelets(&mut self) -> bool {
        let mut changed = false;
        for i in 0..self.pods.len() {
            let pod = &self.pods[i];
            if matches!(pod.status, PodStatus::Unscheduled { .. })
                || pod.next_change_at().is_none_or(|due| due > self.now)
            {
                continue;
            }
            changed = true;
            self.start_container(i);
        }
        changed
    }

    /// Tries to start the container of a pod in the current state of the cluster.
    fn start_container(&mut self, i: usize) {
        let now = self.now;
        let pod = &self.pods[i];
        let namespace = pod.namespace.clone();
        let object = format!("pod/{}", pod.name);
        let app = pod.app.clone();
        let image = pod.template.image.clone();
        let restarted = matches!(pod.status, PodStatus::CrashLoopBackOff { .. });
        let fault = self.container_fault(&namespace, &pod.template);
        match fault {
            None | Some(ContainerFault::UnknownHost(_)) => {
                let pulled = format!("Container image \"{image}\" already present on machine");
                self.record_event(&namespace, &object, Normal, "Pulled", pulled);
                self.record_event(&namespace, &object, Normal, "Started", format!("Started container {app}"));
            }
            Some(ContainerFault::MissingImage) => {
                self.record_event(&namespace, &object, Warning, "Failed", image_pull_error(&image));
                self.record_event(
                    &namespace,
                    &object,
                    Warning,
                    "BackOff",
                    format!("Back-off pulling image \"{image}\""),
                );
            }
            Some(ContainerFault::ConfigError(ref message)) => {
                self.record_event(&namespace, &object, Warning, "Failed", format!("Error: {message}"));
            }
        }
        if let Some(ContainerFault::UnknownHost(_)) = fault {
            let message = format!("Back-off restarting failed container {app} in pod {}", &object[4..]);
            self.record_event(&namespace, &object, Warning, "BackOff", message);
        }
        let pod = &mut self.pods[i];
        if restarted {
            pod.restarts += 1;
            pod.last_restart = Some(now);
        }
        pod.status = match fault {
            None => PodStatus::Running { since: now },
            Some(ContainerFault::MissingImage) => PodStatus::ImagePullBackOff { retry: now + RETRY },
            Some(ContainerFault::ConfigError(_)) => PodStatus::ConfigError { retry: now + RETRY },
            Some(ContainerFault::UnknownHost(host)) => {
                pod.crashed_on = Some(host);
                PodStatus::CrashLoopBackOff { retry: now + RETRY.min(10 << pod.restarts.min(5)) }
            }
        };
    }
}

/// Returns the kubelet's message for an image that does not exist.
pub(super) fn image_pull_error(image: &str) -> String {
    let (repo, tag) = split_image(image);
    let full = match repo.split_once('/') {
        None => format!("docker.io/library/{repo}:{tag}"),
        Some((host, _)) if !host.contains(['.', ':']) => format!("docker.io/{repo}:{tag}"),
        Some(_) => format!("{repo}:{tag}"),
    };
    format!(
        "Failed to pull image \"{image}\": rpc error: code = NotFound desc = failed to pull and unpack image \
         \"{full}\": failed to resolve reference \"{full}\": {full}: not found"
    )
}
