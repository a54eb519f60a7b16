//! What moves the cluster: the deployment controller, the scheduler and the kubelet, each in a few lines.
//!
//! Time is driven from due time to due time, never by ticking, so that it makes no difference whether anybody looked
//! in between.

use super::state::{Fault, Pod, Secs, State, Status, Template, letters, set_hash, split_image};

/// From scheduled to started, when all is well.
const STARTUP: Secs = 2;
/// How often what failed is tried again; also the longest back-off of a crash loop.
const RETRY: Secs = 300;
/// How much is lived through, at most, when nobody has looked for long.
const CATCH_UP: Secs = 86_400;

impl State {
    /// Lets everything happen that is due until `to`.
    pub fn advance(&mut self, to: Secs) {
        self.now = self.now.max(to - CATCH_UP);
        while let Some(due) = self.pods.iter().filter_map(Pod::due).min()
            && due <= to
        {
            self.now = self.now.max(due);
            self.settle();
        }
        self.now = self.now.max(to);
        self.settle();
    }

    /// Runs the control loops at the present until they find nothing to do.
    pub fn settle(&mut self) {
        loop {
            let changed = self.control_deployments() | self.schedule() | self.run_kubelets();
            if !changed {
                return;
            }
        }
    }

    /// Rolling updates with one pod more than asked for and none fewer; broken pods of older templates go first.
    fn control_deployments(&mut self) -> bool {
        let mut changed = false;
        for i in 0..self.deployments.len() {
            let d = &self.deployments[i];
            let (namespace, app, replicas) = (d.namespace.clone(), d.name.clone(), d.replicas as usize);
            let template = d.template().clone();
            let set = set_hash(&namespace, &app, &template);
            let of_set = |p: &Pod| p.namespace == namespace && p.app == app && p.set == set;
            let of_older = |p: &Pod| p.namespace == namespace && p.app == app && p.set != set;

            let ready = self.pods.iter().filter(|p| of_set(p) && p.ready()).count().min(replicas);
            let mut keep = replicas - ready;
            let surplus: Vec<String> = self
                .pods
                .iter()
                .filter(|p| of_older(p))
                .filter(|p| {
                    let stays = p.ready() && keep > 0;
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
            self.note(
                &namespace,
                &format!("deployment/{app}"),
                false,
                "ScalingReplicaSet",
                format!("Scaled {direction} replica set {app}-{set} from {have} to {wanted}"),
            );
            for _ in have..wanted {
                let pod = self.new_pod(&namespace, &app, &template);
                let message = format!("Created pod: {}", pod.name);
                self.note(&namespace, &format!("replicaset/{app}-{set}"), false, "SuccessfulCreate", message);
                self.pods.push(pod);
            }
            for _ in wanted..have {
                // The unready first, then the youngest, as the ReplicaSet controller does it.
                let victim = self
                    .pods
                    .iter()
                    .filter(|p| of_set(p))
                    .max_by_key(|p| (!p.ready(), p.created))
                    .map(|p| p.name.clone());
                if let Some(name) = victim {
                    self.remove_pod(&namespace, &name);
                }
            }
        }
        changed
    }

    /// A pod of this template that no node has yet.
    pub fn new_pod(&mut self, namespace: &str, app: &str, template: &Template) -> Pod {
        self.serial += 1;
        let set = set_hash(namespace, app, template);
        let suffix = letters(&format!("{namespace}/{app}-{set} {}", self.serial), 5);
        Pod {
            namespace: namespace.to_owned(),
            name: format!("{app}-{set}-{suffix}"),
            app: app.to_owned(),
            set,
            template: template.clone(),
            created: self.now,
            node: None,
            ip: None,
            status: Status::Unscheduled { retry: self.now },
            restarts: 0,
            last_restart: None,
            crashed_on: None,
        }
    }

    /// Takes a pod away; its events stay for their hour.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) {
        let Some(at) = self.pods.iter().position(|p| p.namespace == namespace && p.name == name) else { return };
        let pod = self.pods.remove(at);
        if pod.ready() {
            let message = format!("Stopping container {}", pod.app);
            self.note(namespace, &format!("pod/{name}"), false, "Killing", message);
        }
    }

    /// The node with the most free memory that has room and lets the pod in.
    pub fn place(&self, namespace: &str, template: &Template) -> Option<String> {
        self.nodes
            .iter()
            .filter(|n| !n.control_plane || namespace == "kube-system")
            .filter_map(|n| {
                let (cpu, memory) = self.requested(&n.name);
                let free = n.memory.checked_sub(memory + template.memory)?;
                (cpu + template.cpu <= n.cpu).then_some((free, n))
            })
            // Of equals the first: `max_by_key` would take the last.
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
            .map(|(_, n)| n.name.clone())
    }

    /// What the pods on a node ask for: CPU and memory.
    pub fn requested(&self, node: &str) -> (u64, u64) {
        let on_node = self.pods.iter().filter(|p| p.node.as_deref() == Some(node));
        on_node.fold((0, 0), |(cpu, memory), p| (cpu + p.template.cpu, memory + p.template.memory))
    }

    fn schedule(&mut self) -> bool {
        let mut changed = false;
        for i in 0..self.pods.len() {
            let Status::Unscheduled { retry } = self.pods[i].status else { continue };
            let pod = &self.pods[i];
            let (namespace, name, object) = (pod.namespace.clone(), pod.name.clone(), format!("pod/{}", pod.name));
            if let Some(node) = self.place(&namespace, &pod.template) {
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                self.note(&namespace, &object, false, "Scheduled", message);
                let until = self.now + STARTUP;
                let ip = self.address(&node);
                let pod = &mut self.pods[i];
                (pod.node, pod.ip, pod.status) = (Some(node), Some(ip), Status::Starting { until });
                changed = true;
            } else if retry <= self.now {
                let message = self.no_room(&namespace, &pod.template);
                self.note(&namespace, &object, true, "FailedScheduling", message);
                self.pods[i].status = Status::Unscheduled { retry: self.now + RETRY };
            }
        }
        changed
    }

    /// The scheduler's words for a pod that fits nowhere.
    pub fn no_room(&self, namespace: &str, template: &Template) -> String {
        let all = self.nodes.len();
        let (mut tainted, mut memory, mut cpu) = (0, 0, 0);
        for node in &self.nodes {
            if node.control_plane && namespace != "kube-system" {
                tainted += 1;
                continue;
            }
            let used = self.requested(&node.name);
            memory += usize::from(used.1 + template.memory > node.memory);
            cpu += usize::from(used.0 + template.cpu > node.cpu);
        }
        let parts = [
            (tainted, "node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }"),
            (cpu, "Insufficient cpu"),
            (memory, "Insufficient memory"),
        ];
        let reasons: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, r)| format!("{n} {r}")).collect();
        format!("0/{all} nodes are available: {}.", reasons.join(", "))
    }

    /// A pod address on a node.
    pub fn address(&mut self, node: &str) -> String {
        self.serial += 1;
        let subnet = self.nodes.iter().position(|n| n.name == node).unwrap_or(0);
        format!("10.42.{subnet}.{}", self.serial % 250 + 2)
    }

    fn run_kubelets(&mut self) -> bool {
        let mut changed = false;
        for i in 0..self.pods.len() {
            let pod = &self.pods[i];
            if matches!(pod.status, Status::Unscheduled { .. }) || pod.due().is_none_or(|due| due > self.now) {
                continue;
            }
            changed = true;
            self.start_container(i);
        }
        changed
    }

    /// Tries to start the container of a pod, with what the cluster is like now.
    fn start_container(&mut self, i: usize) {
        let (now, pod) = (self.now, &self.pods[i]);
        let (namespace, object, app) = (pod.namespace.clone(), format!("pod/{}", pod.name), pod.app.clone());
        let image = pod.template.image.clone();
        let again = matches!(pod.status, Status::Crashing { .. });
        let fault = self.fault(&namespace, &pod.template);
        match fault {
            None | Some(Fault::Host(_)) => {
                let pulled = format!("Container image \"{image}\" already present on machine");
                self.note(&namespace, &object, false, "Pulled", pulled);
                self.note(&namespace, &object, false, "Started", format!("Started container {app}"));
            }
            Some(Fault::Image) => {
                self.note(&namespace, &object, true, "Failed", pull_failure(&image));
                self.note(&namespace, &object, true, "BackOff", format!("Back-off pulling image \"{image}\""));
            }
            Some(Fault::Config(ref message)) => {
                self.note(&namespace, &object, true, "Failed", format!("Error: {message}"));
            }
        }
        if let Some(Fault::Host(_)) = fault {
            let message = format!("Back-off restarting failed container {app} in pod {}", &object[4..]);
            self.note(&namespace, &object, true, "BackOff", message);
        }
        let pod = &mut self.pods[i];
        if again {
            pod.restarts += 1;
            pod.last_restart = Some(now);
        }
        pod.status = match fault {
            None => Status::Running { since: now },
            Some(Fault::Image) => Status::NoImage { retry: now + RETRY },
            Some(Fault::Config(_)) => Status::NoConfig { retry: now + RETRY },
            Some(Fault::Host(host)) => {
                pod.crashed_on = Some(host);
                Status::Crashing { retry: now + RETRY.min(10 << pod.restarts.min(5)) }
            }
        };
    }
}

/// The kubelet's words for an image that is not there.
pub(super) fn pull_failure(image: &str) -> String {
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
