//! What one user, and all together, may ask of this process: requests per minute, open streams. Whoever asks for more is
//! told so at once, and when to come again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use super::{LimitOptions, ProblemCode, ProblemDetails};
use k8sops_core::UserId;

/// Users whose requests are counted. When there are more, those who have asked for nothing lately are forgotten.
const SWEEP_AT: usize = 10_000;
/// How often it is logged that callers were refused.
const TELL: Duration = Duration::from_secs(60);

/// The quota of a process.
pub struct RequestQuota {
    limits: ArcSwap<LimitOptions>,
    // Plain mutexes: held for a look-up, never across an await.
    requests: Mutex<HashMap<UserId, Instant>>,
    streams: Arc<Mutex<Streams>>,
    refused: Mutex<(u64, Option<Instant>)>,
}

#[derive(Default)]
struct Streams {
    all: usize,
    by_user: HashMap<UserId, usize>,
}

impl RequestQuota {
    /// Nothing used yet.
    #[must_use]
    pub fn new(limits: LimitOptions) -> Self {
        Self {
            limits: ArcSwap::from_pointee(limits),
            requests: Mutex::default(),
            streams: Arc::default(),
            refused: Mutex::default(),
        }
    }

    /// Bounds what comes from now on by other limits; what is open stays.
    pub fn set_limits(&self, limits: LimitOptions) {
        self.limits.store(Arc::new(limits));
    }

    /// Counts a request, or a command on a WebSocket. A bucket of a minute's worth that fills steadily, kept as the one
    /// instant at which it is full again.
    pub(super) fn request(&self, user: &UserId) -> Result<(), ProblemDetails> {
        self.request_at(user, Instant::now())
    }

    fn request_at(&self, user: &UserId, now: Instant) -> Result<(), ProblemDetails> {
        let per_minute = self.limits.load().requests_per_minute;
        let (whole, one) = (Duration::from_secs(60), Duration::from_secs(60) / per_minute);
        let mut requests = lock(&self.requests);
        if requests.len() >= SWEEP_AT && !requests.contains_key(user) {
            requests.retain(|_, full_at| *full_at > now);
        }
        let full_at = requests.get(user).map_or(now, |full_at| (*full_at).max(now)) + one;
        let over = full_at.saturating_duration_since(now + whole);
        if !over.is_zero() {
            let wait = over.as_secs() + 1;
            let detail = format!(
                "{per_minute} requests in a minute are the limit (K8SOPS_MAX_REQUESTS_PER_MINUTE); try again in {wait} s"
            );
            return Err(ProblemDetails::new(ProblemCode::TooManyRequests, detail).retry_after(wait));
        }
        requests.insert(user.clone(), full_at);
        Ok(())
    }

    /// A place for a stream, held for as long as the slot lives.
    pub(super) fn stream(&self, user: &UserId) -> Result<StreamPermit, ProblemDetails> {
        let LimitOptions { streams_per_user, streams: most, .. } = **self.limits.load();
        let mut streams = lock(&self.streams);
        if streams.by_user.get(user).is_some_and(|theirs| *theirs >= streams_per_user) {
            let detail = format!(
                "{streams_per_user} of your streams are open on this replica, which is the limit \
                 (K8SOPS_MAX_STREAMS_PER_USER); close one"
            );
            return Err(ProblemDetails::new(ProblemCode::TooManyStreams, detail));
        }
        if streams.all >= most {
            let detail = format!("{most} streams are open on this replica, which is the limit; try again in a moment");
            return Err(ProblemDetails::new(ProblemCode::Overloaded, detail));
        }
        streams.all += 1;
        *streams.by_user.entry(user.clone()).or_default() += 1;
        Ok(StreamPermit { streams: self.streams.clone(), user: user.clone() })
    }

    /// Counts a caller who presented what is not valid. Told in the log now and then, never once for each: a flood of them
    /// must cost no more than its answers. Whether it was told.
    pub(super) fn note_refusal(&self) -> bool {
        let mut refused = lock(&self.refused);
        refused.0 += 1;
        if refused.1.is_none_or(|told| told.elapsed() >= TELL) {
            tracing::warn!(callers = refused.0, "callers were refused: their keys or tokens are not valid");
            *refused = (0, Some(Instant::now()));
            return true;
        }
        false
    }
}

/// See [`RequestQuota::stream`].
pub(super) struct StreamPermit {
    streams: Arc<Mutex<Streams>>,
    user: UserId,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut streams = lock(&self.streams);
        streams.all -= 1;
        if let Some(theirs) = streams.by_user.get_mut(&self.user) {
            *theirs -= 1;
            if *theirs == 0 {
                streams.by_user.remove(&self.user);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn a_minutes_worth_comes_at_once_and_then_as_it_fills() {
        let (quota, now) = (quota(), Instant::now());
        let [anna, ben]: [UserId; 2] = ["anna", "ben"].map(|user| user.parse().unwrap());
        for _ in 0..60 {
            quota.request_at(&anna, now).unwrap();
        }
        assert_eq!(quota.request_at(&anna, now).unwrap_err().code, ProblemCode::TooManyRequests);
        quota.request_at(&ben, now).unwrap();
        let later = now + Duration::from_secs(2);
        assert!(quota.request_at(&anna, later).is_ok() && quota.request_at(&anna, later).is_ok());
        assert!(quota.request_at(&anna, later).is_err());
    }

    #[test]
    fn a_stream_has_its_place_until_it_is_closed() {
        let quota = quota();
        let [anna, ben]: [UserId; 2] = ["anna", "ben"].map(|user| user.parse().unwrap());
        let (first, second) = (quota.stream(&anna).ok().unwrap(), quota.stream(&anna).ok().unwrap());
        assert_eq!(quota.stream(&anna).err().unwrap().code, ProblemCode::TooManyStreams);
        let third = quota.stream(&ben).ok().unwrap();
        assert_eq!(quota.stream(&ben).err().unwrap().code, ProblemCode::Overloaded);
        drop((first, third));
        assert!(quota.stream(&anna).is_ok());
        drop(second);
        let streams = lock(&quota.streams);
        assert!(streams.all == 0 && streams.by_user.is_empty());
    }
}
