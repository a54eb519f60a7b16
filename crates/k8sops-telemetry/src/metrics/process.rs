//! What the process takes of its machine: memory, descriptors, tasks. Looked at when somebody asks.

use prometheus::{Gauge, IntGauge};

use super::make::Maker;

#[derive(Debug)]
pub(super) struct Process {
    resident: IntGauge,
    descriptors: IntGauge,
    sessions: IntGauge,
    tasks: IntGauge,
}

impl Process {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        let started: Gauge =
            make.figure("process_start_time_seconds", "When this was started, in seconds since the epoch.");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        started.set(now.as_secs_f64());
        Self {
            resident: make.gauge("process_resident_memory_bytes", "Resident memory of the process."),
            descriptors: make.gauge("process_open_fds", "Open file descriptors of the process, sockets included."),
            sessions: make.gauge("k8sops_sessions_owned", "Sessions that this replica works on, or did a moment ago."),
            tasks: make
                .gauge("k8sops_tasks_alive", "Tasks of the asynchronous runtime, without those of HTTP workers."),
        }
    }

    pub(super) fn set_work(&self, sessions: usize, tasks: usize) {
        self.sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
        self.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
    }

    /// Reads what the kernel says; on a machine without `/proc` both stay 0.
    pub(super) fn look(&self) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<i64>().ok());
        self.resident.set(kib.unwrap_or(0) * 1024);
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.descriptors.set(i64::try_from(open).unwrap_or(i64::MAX));
    }
}
