//! How the cluster shows itself: the tables of `kubectl get`, and `kubectl describe` in short.

use super::{
    quantity::{age, cpu, memory},
    state::{Deployment, Event, Pod, Secs, State, Status, set_hash},
};

/// A table with kubectl's column gap of three spaces.
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|h| (*h).to_owned()).collect()] }
    }

    fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.iter().map(|c| (*c).to_owned()).collect());
    }

    /// The table, or kubectl's word for its being empty.
    fn print(self, namespace: Option<&str>) -> String {
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

/// Whether a thing is in the namespace that was asked for; `None` asks for all.
fn within(namespace: Option<&str>, of: &str) -> bool {
    namespace.is_none_or(|ns| ns == of)
}

impl State {
    fn ago(&self, at: Secs) -> String {
        age(self.now - at)
    }

    pub fn print_namespaces(&self) -> String {
        let mut table = Table::new(&["NAME", "STATUS", "AGE"]);
        for ns in &self.namespaces {
            table.row([&ns.name, "Active", &self.ago(ns.created)]);
        }
        table.print(None)
    }

    pub fn print_nodes(&self) -> String {
        let mut table = Table::new(&[
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
            let (used_cpu, used_memory) = self.requested(&node.name);
            let role = if node.control_plane { "control-plane" } else { "worker" };
            let cpus = format!("{} of {}", cpu(used_cpu), cpu(node.cpu));
            let memories = format!("{} of {}", memory(used_memory), memory(node.memory));
            table.row([&node.name, "Ready", role, &self.ago(node.created), "v1.34.2", &node.ip, &cpus, &memories]);
        }
        table.print(None)
    }

    pub fn print_pods(&self, namespace: Option<&str>) -> String {
        let mut table = Table::new(&["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "IMAGE"]);
        let mut pods: Vec<&Pod> = self.pods.iter().filter(|p| within(namespace, &p.namespace)).collect();
        pods.sort_by_key(|p| (&p.namespace, &p.name));
        for pod in pods {
            let restarts = match pod.last_restart {
                Some(at) => format!("{} ({} ago)", pod.restarts, self.ago(at)),
                None => pod.restarts.to_string(),
            };
            table.row([
                &pod.namespace,
                &pod.name,
                if pod.ready() { "1/1" } else { "0/1" },
                pod.status_word(),
                &restarts,
                &self.ago(pod.created),
                pod.ip.as_deref().unwrap_or("<none>"),
                pod.node.as_deref().unwrap_or("<none>"),
                &pod.template.image,
            ]);
        }
        table.print(namespace)
    }

    /// Ready, up to date and available pods of a deployment.
    pub fn counts(&self, d: &Deployment) -> (usize, usize, usize) {
        let set = set_hash(&d.namespace, &d.name, d.template());
        let pods = || self.pods.iter().filter(|p| p.namespace == d.namespace && p.app == d.name);
        let ready = pods().filter(|p| p.ready()).count();
        (ready, pods().filter(|p| p.set == set).count(), ready)
    }

    pub fn print_deployments(&self, namespace: Option<&str>) -> String {
        let mut table = Table::new(&["NAMESPACE", "NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "IMAGE"]);
        for d in self.deployments.iter().filter(|d| within(namespace, &d.namespace)) {
            let (ready, updated, available) = self.counts(d);
            table.row([
                &d.namespace,
                &d.name,
                &format!("{ready}/{}", d.replicas),
                &updated.to_string(),
                &available.to_string(),
                &self.ago(d.created),
                &d.template().image,
            ]);
        }
        table.print(namespace)
    }

    pub fn print_services(&self, namespace: Option<&str>) -> String {
        let mut table = Table::new(&["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "PORT(S)", "AGE"]);
        for s in self.services.iter().filter(|s| within(namespace, &s.namespace)) {
            let port = format!("{}/TCP", s.port);
            table.row([&s.namespace, &s.name, "ClusterIP", &s.ip, &port, &self.ago(s.created)]);
        }
        table.print(namespace)
    }

    pub fn print_config_maps(&self, namespace: Option<&str>) -> String {
        let mut table = Table::new(&["NAMESPACE", "NAME", "DATA", "AGE"]);
        for m in self.config_maps.iter().filter(|m| within(namespace, &m.namespace)) {
            table.row([&m.namespace, &m.name, &m.data.len().to_string(), &self.ago(m.created)]);
        }
        table.print(namespace)
    }

    pub fn print_events(&self, namespace: Option<&str>) -> String {
        let mut table = Table::new(&["NAMESPACE", "LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
        for e in self.recent_events(|e| within(namespace, &e.namespace)) {
            let seen = match e.count {
                1 => self.ago(e.last),
                n => format!("{} (x{n} over {})", self.ago(e.last), self.ago(e.first)),
            };
            table.row([&e.namespace, &seen, event_type(e), e.reason, &e.object, &e.message]);
        }
        table.print(namespace)
    }

    /// The events of the last hour, the newest last.
    fn recent_events(&self, wanted: impl Fn(&Event) -> bool) -> Vec<&Event> {
        let mut events: Vec<&Event> = self.events.iter().filter(|e| self.now - e.last < 3600 && wanted(e)).collect();
        events.sort_by_key(|e| e.last);
        events
    }

    pub fn describe_events(&self, namespace: &str, object: &str) -> String {
        let events = self.recent_events(|e| e.namespace == namespace && e.object == object);
        if events.is_empty() {
            return "Events:  <none>".to_owned();
        }
        let mut table = Table::new(&["TYPE", "REASON", "AGE", "MESSAGE"]);
        for e in events {
            let seen = match e.count {
                1 => self.ago(e.last),
                n => format!("{} (x{n} over {})", self.ago(e.last), self.ago(e.first)),
            };
            table.row([event_type(e), e.reason, &seen, &e.message]);
        }
        format!("Events:\n  {}", table.print(None).replace('\n', "\n  "))
    }

    /// The lines on a container that pods and deployments share.
    fn describe_container(d: &super::state::Template, name: &str) -> String {
        let mut lines = vec![
            format!("  {name}:"),
            format!("    Image:     {}", d.image),
            format!("    Port:      {}/TCP", d.port),
            format!("    Requests:  cpu: {}, memory: {}", cpu(d.cpu), memory(d.memory)),
            "    Environment:".to_owned() + if d.env.is_empty() { "  <none>" } else { "" },
        ];
        for reference in &d.env {
            let (key, map) = (&reference.key, &reference.map);
            lines.push(format!("      {key}:  <set to the key '{key}' of config map '{map}'>"));
        }
        lines.join("\n")
    }

    pub fn describe_pod(&self, pod: &Pod) -> String {
        let (phase, state) = match pod.status {
            Status::Running { since } => ("Running", format!("Running (for {})", self.ago(since))),
            Status::Unscheduled { .. } => ("Pending", "Waiting".to_owned()),
            Status::Crashing { .. } => ("Running", "Waiting\n      Reason:  CrashLoopBackOff".to_owned()),
            _ => ("Pending", format!("Waiting\n      Reason:  {}", pod.status_word())),
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
            self.ago(pod.created),
            pod.ip.as_deref().unwrap_or("<none>"),
            pod.app,
            pod.set,
            Self::describe_container(&pod.template, &pod.app),
            if pod.ready() { "True" } else { "False" },
            pod.restarts,
            self.describe_events(&pod.namespace, &format!("pod/{}", pod.name)),
        )
    }

    pub fn describe_deployment(&self, d: &Deployment) -> String {
        let (ready, updated, _) = self.counts(d);
        let set = set_hash(&d.namespace, &d.name, d.template());
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
            self.ago(d.created),
            d.revision,
            d.replicas,
            total - ready,
            Self::describe_container(d.template(), &d.name),
            d.name,
            self.describe_events(&d.namespace, &format!("deployment/{}", d.name)),
        )
    }

    pub fn describe_node(&self, node: &super::state::Node) -> String {
        let mut pods = Table::new(&["NAMESPACE", "NAME", "CPU REQUESTS", "MEMORY REQUESTS"]);
        for p in self.pods.iter().filter(|p| p.node.as_deref() == Some(&node.name)) {
            pods.row([&p.namespace, &p.name, &cpu(p.template.cpu), &memory(p.template.memory)]);
        }
        let (used_cpu, used_memory) = self.requested(&node.name);
        format!(
            "Name:           {}\nRoles:          {}\nTaints:         {}\nInternalIP:     {}\nConditions:     Ready, no \
             pressure on memory, disk or PIDs\nAllocatable:    cpu: {}, memory: {}\nAllocated:      cpu: {}, memory: \
             {}\nNon-terminated Pods:\n  {}",
            node.name,
            if node.control_plane { "control-plane" } else { "worker" },
            if node.control_plane { "node-role.kubernetes.io/control-plane:NoSchedule" } else { "<none>" },
            node.ip,
            cpu(node.cpu),
            memory(node.memory),
            cpu(used_cpu),
            memory(used_memory),
            pods.print(None).replace('\n', "\n  "),
        )
    }

    pub fn describe_service(&self, s: &super::state::Service) -> String {
        // kube-dns is the one service that is not named like its deployment.
        let app = if s.name == "kube-dns" { "coredns" } else { &s.name };
        let ready = self.pods.iter().filter(|p| p.namespace == s.namespace && p.app == app && p.ready());
        let endpoints: Vec<String> = ready.filter_map(|p| p.ip.as_ref()).map(|ip| format!("{ip}:{}", s.port)).collect();
        let endpoints = if endpoints.is_empty() { "<none>".to_owned() } else { endpoints.join(",") };
        format!(
            "Name:       {}\nNamespace:  {}\nSelector:   app={app}\nType:       ClusterIP\nIP:         {}\nPort:       \
             {}/TCP\nEndpoints:  {endpoints}",
            s.name, s.namespace, s.ip, s.port
        )
    }
}

fn event_type(event: &Event) -> &'static str {
    if event.warning { "Warning" } else { "Normal" }
}
