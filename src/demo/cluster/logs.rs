//! What the programs in the containers write. Made up on demand from the time, so that logs grow without being kept.

use super::state::{Pod, Secs, State, Status, split_image};

/// The seconds between two lines of a program that runs.
const EVERY: Secs = 9;
/// The most lines of one answer.
const MOST: usize = 1000;

impl State {
    /// The last `tail` lines of a pod's log, or why there is none (kubectl's words after `Error from server`).
    pub fn log(&self, pod: &Pod, tail: usize, previous: bool) -> Result<String, String> {
        let (name, app, tail) = (&pod.name, &pod.app, tail.min(MOST));
        let waiting =
            |why: &str| Err(format!("(BadRequest): container \"{app}\" in pod \"{name}\" is waiting to start: {why}"));
        let lines = match pod.status {
            Status::Unscheduled { .. } => {
                return Err(format!("(BadRequest): pod {name} does not have a host assigned"));
            }
            Status::NoImage { .. } => return waiting("trying and failing to pull image"),
            Status::NoConfig { .. } => return waiting("CreateContainerConfigError"),
            Status::Starting { .. } if pod.restarts == 0 => return waiting("ContainerCreating"),
            Status::Running { .. } if previous && pod.restarts == 0 => {
                return Err(format!(
                    "(BadRequest): previous terminated container \"{app}\" in pod \"{name}\" not found"
                ));
            }
            Status::Running { since } if !previous => self.running(pod, since, tail),
            _ => self.crashed(pod),
        };
        Ok(lines[lines.len().saturating_sub(tail)..].join("\n"))
    }

    fn stamp(&self, at: Secs) -> String {
        let time = jiff::Timestamp::from_second(self.start_unix + at).unwrap_or_default();
        time.to_string()
    }

    /// The log of a run that ended because a host could not be found. The password in the URL is there on purpose: it
    /// shows that credentials in tool output are masked.
    fn crashed(&self, pod: &Pod) -> Vec<String> {
        let host = pod.crashed_on.as_deref().unwrap_or("unknown");
        let at = self.stamp(pod.last_restart.unwrap_or(pod.created + 3));
        let version = split_image(&pod.template.image).1;
        vec![
            format!("{at} INFO  {} {version} starting", pod.app),
            format!("{at} INFO  connecting to postgres://payments:not-a-real-password@{host}:5432/payments"),
            format!("{at} ERROR database: dial tcp: lookup {host} on 10.43.0.10:53: no such host"),
            format!("{at} FATAL no database after 3 attempts, exiting with code 1"),
        ]
    }

    fn running(&self, pod: &Pod, since: Secs, tail: usize) -> Vec<String> {
        let last = (self.now - since).max(0) / EVERY;
        let first = (last + 1 - Secs::try_from(tail).unwrap_or(Secs::MAX)).max(0);
        (first..=last)
            .map(|i| {
                let at = self.stamp(since + i * EVERY);
                // Numbers that look alive, and are the same for the same line whenever it is read.
                let n = (i + since.rem_euclid(97)) * 2_654_435 % 9_973;
                format!("{at} {}", line(&pod.template.image, &pod.app, i, n))
            })
            .collect()
    }
}

fn line(image: &str, app: &str, i: Secs, n: Secs) -> String {
    let (repo, version) = split_image(image);
    if i == 0 {
        return format!("INFO  {app} {version} started");
    }
    match repo.rsplit('/').next().unwrap_or(repo) {
        "checkout" => format!("INFO  order {} placed, {} items, {} ms", 40_000 + n, n % 5 + 1, n % 80 + 12),
        "cart" => format!("INFO  PUT /cart/{n}/items 200 {} ms", n % 20 + 2),
        "nginx" => {
            let path = match i % 4 {
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
        _ => format!("level=info msg=\"all is well\" seq={i}"),
    }
}
