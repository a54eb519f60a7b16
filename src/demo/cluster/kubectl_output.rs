//! The output of kubectl: the tables of `kubectl get`, and a short form of `kubectl describe`.

use super::{
    cluster_state::{
        ClusterState, EventSeverity, PodStatus, SimSeconds, SimulatedDeployment, SimulatedEvent, SimulatedPod,
        replica_set_hash,
    },
    quantity::{format_age, format_cpu, format_memory},
};

/// A table with kubectl's column gap of three spaces.
struct TextTable {
    rows: Vec<Vec<String>>,
}

impl TextTable {
    fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|h| (*h).to_owned()).collect()] }
    }

    fn add_row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.iter().map(|c| (*c).to_owned()).collect());
    }

    /// Formats the table, or returns kubectl's message for an empty one.
    fn render(self, namespace: Option<&str>) -> String {
        if self.rows.len() == 1 {
            return namespace
                .map_or("No resources found".to_owned(), |ns| format!("No resources found in {ns} namespace."));
        }
        let columns = self.rows[0].len();
        let width = |i: usize| self.rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let lines: Vec<String> = self
            .rows
            .iter()
            .map(|row| {
                let cells: Vec<String> = row.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect();
                cells.join("   ").trim_end().to_owned()
            })
            .collect();
        lines.join("\n")
    }
}

/// Returns whether an object is in the selected namespace; `None` selects all.
fn is_in_namespace(namespace: Option<&str>, object_namespace: &str) -> bool {
    namespace.is_none_or(|ns| ns == object_namespace)
}

impl ClusterState {
    fn age_since(&self, at: SimSeconds) -> String {
        format_age(self.now - at)
    }

    pub(super) fn print_namespaces(&self) -> String {
        let mut table = TextTable::new(&["NAME", "STATUS", "AGE"]);
        for ns in &self.namespaces {
            table.add_row([&ns.name, "Active", &self.age_since(ns.created)]);
        }
        table.render(None)
    }

    pub(super) fn print_nodes(&self) -> String {
        let mut table = TextTable::new(&[
            "NAME",
            "STATUS",
            "ROLES",
            "AGE",
            "VERSION",
            "INTERNAL-IP",
            "CPU-REQUESTED",
            "MEMORY-REQUESTED",
        ]);
        for node in &self.nodes {
            let (used_cpu, used_memory) = self.requested_resources(&node.name);
            let role = if node.control_plane { "control-plane" } else { "worker" };
            let cpus = format!("{} of {}", format_cpu(used_cpu), format_cpu(node.cpu));
            let memories = format!("{} of {}", format_memory(used_memory), format_memory(node.memory));
            table.add_row([
                &node.name,
                "Ready",
                role,
                &self.age_since(node.created),
                "v1.34.2",
                &node.ip,
                &cpus,
                &memories,
            ]);
        }
        table.render(None)
    }

    pub(super) fn print_pods(&self, namespace: Option<&str>) -> String {
        let mut table =
            TextTable::new(&["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "IMAGE"]);
        let mut pods: Vec<&SimulatedPod> =
            self.pods.iter().filter(|p| is_in_namespace(namespace, &p.namespace)).collect();
        pods.sort_by_key(|p| (&p.namespace, &p.name));
        for pod in pods {
            let restarts = match pod.last_restart {
                Some(at) => format!("{} ({} ago)", pod.restarts, self.age_since(at)),
                None => pod.restarts.to_string(),
            };
            table.add_row([
                &pod.namespace,
                &pod.name,
                if pod.is_ready() { "1/1" } else { "0/1" },
                pod.status_text(),
                &restarts,
                &self.age_since(pod.created),
                pod.ip.as_deref().unwrap_or("<none>"),
                pod.node.as_deref().unwrap_or("<none>"),
                &pod.template.image,
            ]);
        }
        table.render(namespace)
    }

    /// Returns the number of ready, updated and available pods of a deployment.
    pub(super) fn count_pods(&self, d: &SimulatedDeployment) -> (usize, usize, usize) {
        let set = replica_set_hash(&d.namespace, &d.name, d.template());
        let pods = || self.pods.iter().filter(|p| p.namespace == d.namespace && p.app == d.name);
        let ready = pods().filter(|p| p.is_ready()).count();
        (ready, pods().filter(|p| p.set == set).count(), ready)
    }

    pub(super) fn print_deployments(&self, namespace: Option<&str>) -> String {
        let mut table = TextTable::new(&["NAMESPACE", "NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "IMAGE"]);
        for d in self.deployments.iter().filter(|d| is_in_namespace(namespace, &d.namespace)) {
            let (ready, updated, available) = self.count_pods(d);
            table.add_row([
                &d.namespace,
                &d.name,
                &format!("{ready}/{}", d.replicas),
                &updated.to_string(),
                &available.to_string(),
                &self.age_since(d.created),
                &d.template().image,
            ]);
        }
        table.render(namespace)
    }

    pub(super) fn print_services(&self, namespace: Option<&str>) -> String {
        let mut table = TextTable::new(&["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "PORT(S)", "AGE"]);
        for s in self.services.iter().filter(|s| is_in_namespace(namespace, &s.namespace)) {
            let port = format!("{}/TCP", s.port);
            table.add_row([&s.namespace, &s.name, "ClusterIP", &s.ip, &port, &self.age_since(s.created)]);
        }
        table.render(namespace)
    }

    pub(super) fn print_config_maps(&self, namespace: Option<&str>) -> String {
        let mut table = TextTable::new(&["NAMESPACE", "NAME", "DATA", "AGE"]);
        for m in self.config_maps.iter().filter(|m| is_in_namespace(namespace, &m.namespace)) {
            table.add_row([&m.namespace, &m.name, &m.data.len().to_string(), &self.age_since(m.created)]);
        }
        table.render(namespace)
    }

    pub(super) fn print_events(&self, namespace: Option<&str>) -> String {
        let mut table = TextTable::new(&["NAMESPACE", "LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
        for e in self.recent_events(|e| is_in_namespace(namespace, &e.namespace)) {
            let seen = match e.count {
                1 => self.age_since(e.last),
                n => format!("{} (x{n} over {})", self.age_since(e.last), self.age_since(e.first)),
            };
            table.add_row([&e.namespace, &seen, event_type_text(e), e.reason, &e.object, &e.message]);
        }
        table.render(namespace)
    }

    /// Returns the events of the last hour, newest last.
    fn recent_events(&self, wanted: impl Fn(&SimulatedEvent) -> bool) -> Vec<&SimulatedEvent> {
        let mut events: Vec<&SimulatedEvent> =
            self.events.iter().filter(|e| self.now - e.last < 3600 && wanted(e)).collect();
        events.sort_by_key(|e| e.last);
        events
    }

    pub(super) fn describe_events(&self, namespace: &str, object: &str) -> String {
        let events = self.recent_events(|e| e.namespace == namespace && e.object == object);
        if events.is_empty() {
            return "Events:  <none>".to_owned();
        }
        let mut table = TextTable::new(&["TYPE", "REASON", "AGE", "MESSAGE"]);
        for e in events {
            let seen = match e.count {
                1 => self.age_since(e.last),
                n => format!("{} (x{n} over {})", self.age_since(e.last), self.age_since(e.first)),
            };
            table.add_row([event_type_text(e), e.reason, &seen, &e.message]);
        }
        format!("Events:\n  {}", table.render(None).replace('\n', "\n  "))
    }

    /// Returns the description of a container, which pods and deployments share.
    fn describe_container(d: &super::cluster_state::PodTemplate, name: &str) -> String {
        let mut lines = vec![
            format!("  {name}:"),
            format!("    Image:     {}", d.image),
            format!("    Port:      {}/TCP", d.port),
            format!("    Requests:  cpu: {}, memory: {}", format_cpu(d.cpu), format_memory(d.memory)),
            "    Environment:".to_owned() + if d.env.is_empty() { "  <none>" } else { "" },
        ];
        for reference in &d.env {
            let key = &reference.key;
            let map = &reference.map;
            lines.push(format!("      {key}:  <set to the key '{key}' of config map '{map}'>"));
        }
        lines.join("\n")
    }

    pub(super) fn describe_pod(&self, pod: &SimulatedPod) -> String {
        let (phase, state) = match pod.status {
            PodStatus::Running { since } => ("Running", format!("Running (for {})", self.age_since(since))),
            PodStatus::Unscheduled { .. } => ("Pending", "Waiting".to_owned()),
            PodStatus::CrashLoopBackOff { .. } => ("Running", "Waiting\n      Reason:  CrashLoopBackOff".to_owned()),
            _ => ("Pending", format!("Waiting\n      Reason:  {}", pod.status_text())),
        };
        let last = if pod.restarts > 0 {
            "\n    Last State:     Terminated\n      Reason:       Error\n      Exit Code:    1"
        } else {
            ""
        };
        format!(
            "Name:           {}\nNamespace:      {}\nNode:           {}\nAge:            {}\nStatus:         {phase}\n\
             IP:             {}\nControlled By:  ReplicaSet/{}-{}\nContainers:\n{}\n    State:          {state}{last}\n    \
             Ready:          {}\n    Restart Count:  {}\n{}",
            pod.name,
            pod.namespace,
            pod.node.as_deref().unwrap_or("<none>"),
            self.age_since(pod.created),
            pod.ip.as_deref().unwrap_or("<none>"),
            pod.app,
            pod.set,
            Self::describe_container(&pod.template, &pod.app),
            if pod.is_ready() { "True" } else { "False" },
            pod.restarts,
            self.describe_events(&pod.namespace, &format!("pod/{}", pod.name)),
        )
    }

    pub(super) fn describe_deployment(&self, d: &SimulatedDeployment) -> String {
        let (ready, updated, _) = self.count_pods(d);
        let set = replica_set_hash(&d.namespace, &d.name, d.template());
        let total = self.pods.iter().filter(|p| p.namespace == d.namespace && p.app == d.name).count();
        let older = self.pods.iter().find(|p| p.namespace == d.namespace && p.app == d.name && p.set != set);
        let older = older.map_or("<none>".to_owned(), |p| {
            let name = format!("{}-{}", p.app, p.set);
            format!("{name} ({} pods, image {})", total - updated, p.template.image)
        });
        format!(
            "Name:           {}\nNamespace:      {}\nAge:            {}\nRevision:       {}\n\
             Replicas:       {} desired | {updated} updated | {total} total | {ready} available | {} unavailable\n\
             StrategyType:   RollingUpdate (max unavailable 0, max surge 1)\nPod Template:\n  Containers:\n{}\n\
             OldReplicaSets: {older}\nNewReplicaSet:  {}-{set} ({updated} pods)\n{}",
            d.name,
            d.namespace,
            self.age_since(d.created),
            d.revision,
            d.replicas,
            total - ready,
            Self::describe_container(d.template(), &d.name),
            d.name,
            self.describe_events(&d.namespace, &format!("deployment/{}", d.name)),
        )
    }

    pub(super) fn describe_node(&self, node: &super::cluster_state::SimulatedNode) -> String {
        let mut pods = TextTable::new(&["NAMESPACE", "NAME", "CPU REQUESTS", "MEMORY REQUESTS"]);
        for p in self.pods.iter().filter(|p| p.node.as_deref() == Some(&node.name)) {
            pods.add_row([&p.namespace, &p.name, &format_cpu(p.template.cpu), &format_memory(p.template.memory)]);
        }
        let (used_cpu, used_memory) = self.requested_resources(&node.name);
        format!(
            "Name:           {}\nRoles:          {}\nTaints:         {}\nInternalIP:     {}\nConditions:     Ready, no \
             pressure on memory, disk or PIDs\nAllocatable:    cpu: {}, memory: {}\nAllocated:      cpu: {}, memory: \
             {}\nNon-terminated Pods:\n  {}",
            node.name,
            if node.control_plane { "control-plane" } else { "worker" },
            if node.control_plane { "node-role.kubernetes.io/control-plane:NoSchedule" } else { "<none>" },
            node.ip,
            format_cpu(node.cpu),
            format_memory(node.memory),
            format_cpu(used_cpu),
            format_memory(used_memory),
            pods.render(None).replace('\n', "\n  "),
        )
    }

    pub(super) fn describe_service(&self, s: &super::cluster_state::SimulatedService) -> String {
        // kube-dns is the only service whose name differs from its deployment.
        let app = if s.name == "kube-dns" { "coredns" } else { &s.name };
        let ready = self.pods.iter().filter(|p| p.namespace == s.namespace && p.app == app && p.is_ready());
        let endpoints: Vec<String> = ready.filter_map(|p| p.ip.as_ref()).map(|ip| format!("{ip}:{}", s.port)).collect();
        let endpoints = if endpoints.is_empty() { "<none>".to_owned() } else { endpoints.join(",") };
        format!(
            "Name:       {}\nNamespace:  {}\nSelector:   app={app}\nType:       ClusterIP\nIP:         {}\nPort:       \
             {}/TCP\nEndpoints:  {endpoints}",
            s.name, s.namespace, s.ip, s.port
        )
    }
}

fn event_type_text(event: &SimulatedEvent) -> &'static str {
    match event.severity {
        EventSeverity::Normal => "Normal",
        EventSeverity::Warning => "Warning",
    }
}
