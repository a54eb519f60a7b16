//! Limits of what one user, and all users together, may request from this process: requests per minute and open streams.
//! Requests over the limit are rejected immediately, with the time after which a retry can succeed.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use k8sops_core::UserId;
use parking_lot::Mutex;

use super::{options::LimitOptions, problem::ProblemDetails, problem_code::ProblemCode};

/// The number of users above which the counters of idle users are removed.
const SWEEP_THRESHOLD: usize = 10_000;
/// The minimum time between two reports of rejected callers.
const REJECTION_REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The request limits of a process. No lock is held across an await.
pub struct RequestQuota {
    limits: ArcSwap<LimitOptions>,
    /// When the bucket of each user is full again.
    requests: Mutex<HashMap<UserId, Instant>>,
    streams: Arc<Mutex<StreamCounts>>,
    rejected_callers: Mutex<RejectedCallers>,
}

#[derive(Default)]
struct StreamCounts {
    total: usize,
    by_user: HashMap<UserId, usize>,
}

#[derive(Default)]
struct RejectedCallers {
    since_report: u64,
    last_report: Option<Instant>,
}

/// Whether a rejected caller caused a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RejectionReport {
    /// It was logged, together with those since the last report.
    Reported,
    /// It was counted only.
    Suppressed,
}

impl RejectionReport {
    pub(super) fn is_reported(self) -> bool {
        self == Self::Reported
    }
}

impl RequestQuota {
    /// Creates a quota of which nothing is used.
    #[must_use]
    pub fn new(limits: LimitOptions) -> Self {
        Self {
            limits: ArcSwap::from_pointee(limits),
            requests: Mutex::default(),
            streams: Arc::default(),
            rejected_callers: Mutex::default(),
        }
    }

    /// Replaces the limits. Streams that are open stay open.
    pub fn set_limits(&self, limits: LimitOptions) {
        self.limits.store(Arc::new(limits));
    }

    /// Counts a request or a command on a WebSocket. This is a token bucket with the capacity of one minute, stored as the
    /// time at which it is full again.
    pub(super) fn count_request(&self, user: &UserId) -> Result<(), ProblemDetails> {
        self.count_request_at(user, Instant::now())
    }

    fn count_request_at(&self, user: &UserId, now: Instant) -> Result<(), ProblemDetails> {
        let per_minute = self.limits.load().requests_per_minute;
        let capacity = Duration::from_secs(60);
        let cost = capacity / per_minute;
        let mut requests = self.requests.lock();
        if requests.len() >= SWEEP_THRESHOLD && !requests.contains_key(user) {
            requests.retain(|_, full_at| *full_at > now);
        }
        let full_at = requests.get(user).map_or(now, |full_at| (*full_at).max(now)) + cost;
        let excess = full_at.saturating_duration_since(now + capacity);
        if !excess.is_zero() {
            let wait = excess.as_secs() + 1;
            let detail = format!(
                "the limit is {per_minute} requests per minute (K8SOPS_MAX_REQUESTS_PER_MINUTE); retry after {wait} s"
            );
            return Err(ProblemDetails::new(ProblemCode::TooManyRequests, detail).with_retry_after(wait));
        }
        requests.insert(user.clone(), full_at);
        Ok(())
    }

    /// Reserves a stream for as long as the permit exists.
    pub(super) fn acquire_stream(&self, user: &UserId) -> Result<StreamPermit, ProblemDetails> {
        let LimitOptions { streams_per_user, streams: max_streams, .. } = **self.limits.load();
        let mut streams = self.streams.lock();
        if streams.by_user.get(user).is_some_and(|count| *count >= streams_per_user) {
            let detail = format!(
                "you have {streams_per_user} open streams on this replica, which is the limit \
                 (K8SOPS_MAX_STREAMS_PER_USER); close one of them"
            );
            return Err(ProblemDetails::new(ProblemCode::TooManyStreams, detail));
        }
        if streams.total >= max_streams {
            let detail = format!("this replica has {max_streams} open streams, which is the limit; retry later");
            return Err(ProblemDetails::new(ProblemCode::Overloaded, detail));
        }
        streams.total += 1;
        *streams.by_user.entry(user.clone()).or_default() += 1;
        Ok(StreamPermit { streams: self.streams.clone(), user: user.clone() })
    }

    /// Counts a caller with invalid credentials. They are logged at most once a minute, so that a flood of them does not fill
    /// the log.
    pub(super) fn count_rejected_caller(&self) -> RejectionReport {
        let mut rejected = self.rejected_callers.lock();
        rejected.since_report += 1;
        if rejected.last_report.is_some_and(|at| at.elapsed() < REJECTION_REPORT_INTERVAL) {
            return RejectionReport::Suppressed;
        }
        tracing::warn!(requests = rejected.since_report, "requests with invalid credentials rejected");
        *rejected = RejectedCallers { since_report: 0, last_report: Some(Instant::now()) };
        RejectionReport::Reported
    }
}

/// The right to keep a stream open.
pub(super) struct StreamPermit {
    streams: Arc<Mutex<StreamCounts>>,
    user: UserId,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut streams = self.streams.lock();
        streams.total -= 1;
        if let Some(count) = streams.by_user.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                streams.by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota() -> RequestQuota {
        RequestQuota::new(LimitOptions {
            requests_per_minute: 60,
            runs_per_user: 1,
            runs: 1,
            streams_per_user: 2,
            streams: 3,
            connections: 1,
        })
    }

    #[test]
    fn bucket_refills_steadily() {
        let (quota, now) = (quota(), Instant::now());
        let [anna, ben]: [UserId; 2] = ["anna", "ben"].map(|user| user.parse().unwrap());
        for _ in 0..60 {
            quota.count_request_at(&anna, now).unwrap();
        }
        assert_eq!(quota.count_request_at(&anna, now).unwrap_err().code, ProblemCode::TooManyRequests);
        quota.count_request_at(&ben, now).unwrap();
        let later = now + Duration::from_secs(2);
        assert!(quota.count_request_at(&anna, later).is_ok() && quota.count_request_at(&anna, later).is_ok());
        assert!(quota.count_request_at(&anna, later).is_err());
    }

    #[test]
    fn closed_stream_frees_its_permit() {
        let quota = quota();
        let [anna, ben]: [UserId; 2] = ["anna", "ben"].map(|user| user.parse().unwrap());
        let (first, second) = (quota.acquire_stream(&anna).ok().unwrap(), quota.acquire_stream(&anna).ok().unwrap());
        assert_eq!(quota.acquire_stream(&anna).err().unwrap().code, ProblemCode::TooManyStreams);
        let third = quota.acquire_stream(&ben).ok().unwrap();
        assert_eq!(quota.acquire_stream(&ben).err().unwrap().code, ProblemCode::Overloaded);
        drop((first, third));
        assert!(quota.acquire_stream(&anna).is_ok());
        drop(second);
        let streams = quota.streams.lock();
        assert!(streams.total == 0 && streams.by_user.is_empty());
    }
}
