//! Logs of the simulated containers. They are generated from the time on each read, so that they grow without being stored.

use super::{
    cluster_error::SimulatedClusterError,
    cluster_state::{ClusterState, ContainerInstance, PodStatus, SimSeconds, SimulatedPod, split_image},
};

/// Seconds between two log lines of a running program.
const LINE_INTERVAL: SimSeconds = 9;
/// Limit for the lines of one read.
const MAX_LINES: usize = 1000;

impl ClusterState {
    /// Returns the last `tail` lines of a pod's log.
    pub(super) fn read_log(
        &self,
        pod: &SimulatedPod,
        tail: usize,
        instance: ContainerInstance,
    ) -> Result<String, SimulatedClusterError> {
        let name = &pod.name;
        let app = &pod.app;
        let tail = tail.min(MAX_LINES);
        let bad_request =
            |why: String| Err(SimulatedClusterError::new(format!("Error from server (BadRequest): {why}")));
        let waiting_to_start =
            |why: &str| bad_request(format!("container \"{app}\" in pod \"{name}\" is waiting to start: {why}"));
        let lines = match pod.status {
            PodStatus::Unscheduled { .. } => {
                return bad_request(format!("pod {name} does not have a host assigned"));
            }
            PodStatus::ImagePullBackOff { .. } => return waiting_to_start("trying and failing to pull image"),
            PodStatus::ConfigError { .. } => return waiting_to_start("CreateContainerConfigError"),
            PodStatus::Starting { .. } if pod.restarts == 0 => return waiting_to_start("ContainerCreating"),
            PodStatus::Running { .. } if instance == ContainerInstance::Previous && pod.restarts == 0 => {
                return bad_request(format!("previous terminated container \"{app}\" in pod \"{name}\" not found"));
            }
            PodStatus::Running { since } if instance == ContainerInstance::Current => {
                self.running_log(pod, since, tail)
            }
            _ => self.crash_log(pod),
        };
        Ok(lines[lines.len().saturating_sub(tail)..].join("\n"))
    }

    pub(super) fn log_timestamp(&self, at: SimSeconds) -> String {
        let time = jiff::Timestamp::from_second(self.start_unix + at).unwrap_or_default();
        time.to_string()
    }

    /// Returns the log of a container that exited because a host was not found. The URL contains a password to show that
    /// credentials in tool output are masked.
    fn crash_log(&self, pod: &SimulatedPod) -> Vec<String> {
        let host = pod.crashed_on.as_deref().unwrap_or("unknown");
        let at = self.log_timestamp(pod.last_restart.unwrap_or(pod.created + 3));
        let version = split_image(&pod.template.image).1;
        vec![
            format!("{at} INFO  {} {version} starting", pod.app),
            format!("{at} INFO  connecting to postgres://payments:not-a-real-password@{host}:5432/payments"),
            format!("{at} ERROR database: dial tcp: lookup {host} on 10.43.0.10:53: no such host"),
            format!("{at} FATAL no database after 3 attempts, exiting with code 1"),
        ]
    }

    fn running_log(&self, pod: &SimulatedPod, since: SimSeconds, tail: usize) -> Vec<String> {
        let last = (self.now - since).max(0) / LINE_INTERVAL;
        let first = (last + 1 - SimSeconds::try_from(tail).unwrap_or(SimSeconds::MAX)).max(0);
        (first..=last)
            .map(|index| {
                let at = self.log_timestamp(since + index * LINE_INTERVAL);
                // The numbers look plausible and are the same each time the line is read.
                let n = (index + since.rem_euclid(97)) * 2_654_435 % 9_973;
                format!("{at} {}", log_line(&pod.template.image, &pod.app, index, n))
            })
            .collect()
    }
}

fn log_line(image: &str, app: &str, index: SimSeconds, n: SimSeconds) -> String {
    let (repo, version) = split_image(image);
    if index == 0 {
        return format!("INFO  {app} {version} started");
    }
    match repo.rsplit('/').next().unwrap_or(repo) {
        "checkout" => format!("INFO  order {} placed, {} items, {} ms", 40_000 + n, n % 5 + 1, n % 80 + 12),
        "cart" => format!("INFO  PUT /cart/{n}/items 200 {} ms", n % 20 + 2),
        "nginx" => {
            let path = match index % 4 {
                0 => "healthz",
                1 => "",
                2 => "products",
                _ => "style.css",
            };
            format!("10.42.1.1 \"GET /{path} HTTP/1.1\" 200 {n}")
        }
        "postgres" => format!("LOG  checkpoint complete: wrote {} buffers", n % 200),
        "api" => format!("INFO  POST /v1/charges 201 {} ms", n % 120 + 20),
        "ledger-worker" => format!("INFO  booked batch {n} of {} entries", n % 40 + 1),
        "recommendations" => format!("INFO  model scored {} products in {} ms", n % 300, n % 90 + 5),
        "coredns" => format!("[INFO] 10.42.1.{} \"A IN payments-api.payments.svc.cluster.local.\" NOERROR", n % 250),
        _ => format!("level=info msg=\"all is well\" seq={index}"),
    }
}
