//! Delivers the notifications of one configuration: in order, each until the receiver accepts it, and from the position on that
//! the store has.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use k8sops_core::{ErrorChain, RecordId, StoreError};
use k8sops_telemetry::Metrics;
use tokio::{
    sync::Semaphore,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    http_sender::{NotificationSender, SendFailure},
    notification_source::{
        NotificationPosition, NotificationSource, NotificationSourceError, NotificationStream, PushNotification,
    },
    push_config::PushConfig,
    push_store::{CLAIM_LIFETIME, ClaimOutcome, PushDelivery, PushStore},
};

/// The delay before the first repetition of an attempt; it doubles with each.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest delay between two attempts, without jitter.
const LAST_DELAY: Duration = Duration::from_secs(60);
/// How often the claim of a delivery is extended.
const CLAIM_INTERVAL: Duration = Duration::from_secs(5);

/// What all deliveries share.
pub(super) struct DeliveryContext {
    pub(super) store: PushStore,
    pub(super) source: Arc<dyn NotificationSource>,
    pub(super) sender: Arc<dyn NotificationSender>,
    pub(super) metrics: Arc<Metrics>,
    /// How many attempts in a row may fail.
    pub(super) max_attempts: u32,
    /// Bounds the requests at the same time.
    pub(super) requests: Semaphore,
}

/// Why a delivery is over here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryEnd {
    /// There is nothing more to deliver, by any replica.
    Finished,
    /// Another replica continues.
    ClaimLost,
}

impl DeliveryContext {
    /// Delivers until there is nothing more to deliver, or the claim is lost. Can be dropped at any time: what the receiver has
    /// accepted by then is delivered once more at most.
    pub(super) async fn run_delivery(&self, id: &RecordId) -> DeliveryEnd {
        let end = tokio::select! {
            end = self.deliver_all(id) => end,
            () = self.keep_claim(id) => return DeliveryEnd::ClaimLost,
        };
        let mut delays = store_delays();
        while let Err(error) = self.store.remove_delivery(id).await {
            wait_for_store(&error, &mut delays).await;
        }
        end
    }

    /// Extends the claim until it is lost.
    async fn keep_claim(&self, id: &RecordId) {
        let mut ticks = interval(CLAIM_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // It was claimed just now.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            match self.store.claim_delivery(id).await {
                Ok(ClaimOutcome::Lost) => return,
                // A delivery that is not claimed in time may be made twice, which is better than not at all.
                Ok(ClaimOutcome::Held) | Err(_) => {}
            }
        }
    }

    async fn deliver_all(&self, id: &RecordId) -> DeliveryEnd {
        let mut delays = store_delays();
        loop {
            match self.deliver_from_store(id).await {
                Ok(()) => return DeliveryEnd::Finished,
                Err(error) => wait_for_store(&error, &mut delays).await,
            }
        }
    }

    /// Delivers from the position on that the store has.
    async fn deliver_from_store(&self, id: &RecordId) -> Result<(), StoreError> {
        let Some(mut delivery) = self.store.read_delivery(id).await? else { return Ok(()) };
        let Some(config) = self.store.read_config(&delivery).await? else { return Ok(()) };
        let mut source_delays = attempt_delays();
        loop {
            let before = delivery.position;
            let ended = self.deliver_stream(&mut delivery, &config).await?;
            if delivery.position != before {
                source_delays = attempt_delays();
            }
            match ended {
                StreamEnd::Finished | StreamEnd::Failed(NotificationSourceError::SessionDeleted) => return Ok(()),
                StreamEnd::Failed(NotificationSourceError::Unavailable) => {}
                StreamEnd::Failed(NotificationSourceError::Broken(why)) => {
                    delivery.failed_attempts += 1;
                    if delivery.failed_attempts >= self.max_attempts {
                        return self.give_up(&config, &delivery, &why).await;
                    }
                    self.store.save_delivery(&delivery).await?;
                }
            }
            sleep(source_delays.next().unwrap_or(LAST_DELAY)).await;
        }
    }

    async fn deliver_stream(&self, delivery: &mut PushDelivery, config: &PushConfig) -> Result<StreamEnd, StoreError> {
        let mut stream = match self.source.open_task(&config.task).await {
            Ok(stream) => stream,
            Err(error) => return Ok(StreamEnd::Failed(error)),
        };
        loop {
            let notification = match next_after(stream.as_mut(), delivery.position).await {
                Ok(Some(notification)) => notification,
                Ok(None) => return Ok(StreamEnd::Finished),
                Err(error) => return Ok(StreamEnd::Failed(error)),
            };
            if self.deliver_notification(delivery, &notification).await? == NotificationEnd::Stopped {
                return Ok(StreamEnd::Finished);
            }
        }
    }

    /// Sends a notification until the receiver accepts it, or is given up.
    async fn deliver_notification(
        &self,
        delivery: &mut PushDelivery,
        notification: &PushNotification,
    ) -> Result<NotificationEnd, StoreError> {
        let mut delays = attempt_delays();
        // An earlier process has waited already.
        for _ in 0..delivery.failed_attempts {
            delays.next();
        }
        loop {
            // It may have been changed or removed on another replica.
            let Some(config) = self.store.read_config(delivery).await? else { return Ok(NotificationEnd::Stopped) };
            let failure = match self.send(&config, notification).await {
                Ok(()) => {
                    self.metrics.count_notification("delivered");
                    delivery.position = notification.position;
                    delivery.failed_attempts = 0;
                    self.store.save_delivery(delivery).await?;
                    return Ok(NotificationEnd::Accepted);
                }
                Err(failure) => failure,
            };
            self.metrics.count_notification("failed");
            delivery.failed_attempts += 1;
            if failure.is_final() || delivery.failed_attempts >= self.max_attempts {
                self.give_up(&config, delivery, &failure.to_string()).await?;
                return Ok(NotificationEnd::Stopped);
            }
            self.store.save_delivery(delivery).await?;
            tracing::debug!(session = %delivery.session, error = %failure, "push notification not accepted, retrying");
            sleep(delays.next().unwrap_or(LAST_DELAY)).await;
        }
    }

    async fn send(&self, config: &PushConfig, notification: &PushNotification) -> Result<(), SendFailure> {
        // The semaphore is never closed.
        let _permit = self.requests.acquire().await;
        self.sender.send(config, notification, self.source.content_type()).await
    }

    /// Removes a configuration whose notifications cannot be delivered.
    async fn give_up(&self, config: &PushConfig, delivery: &PushDelivery, why: &str) -> Result<(), StoreError> {
        self.store.remove_config(&config.task, &config.id).await?;
        self.metrics.count_notification("given_up");
        let (session, attempts) = (delivery.session, delivery.failed_attempts);
        tracing::warn!(%session, run = %config.task.run, attempts, error = why, "push notifications given up");
        Ok(())
    }
}

/// Why a stream of notifications is not read further.
enum StreamEnd {
    Finished,
    Failed(NotificationSourceError),
}

#[derive(PartialEq, Eq)]
enum NotificationEnd {
    Accepted,
    /// The configuration was removed.
    Stopped,
}

/// Returns the next notification that the receiver has not accepted.
async fn next_after(
    stream: &mut dyn NotificationStream,
    position: NotificationPosition,
) -> Result<Option<PushNotification>, NotificationSourceError> {
    loop {
        match stream.next_notification().await? {
            Some(notification) if notification.position <= position => {}
            next => return Ok(next),
        }
    }
}

fn attempt_delays() -> ExponentialBackoff {
    let delays = ExponentialBuilder::default().with_min_delay(FIRST_DELAY).with_max_delay(LAST_DELAY);
    delays.with_factor(2.0).with_jitter().without_max_times().build()
}

fn store_delays() -> ExponentialBackoff {
    let delays = ExponentialBuilder::default().with_min_delay(FIRST_DELAY).with_max_delay(CLAIM_LIFETIME);
    delays.with_jitter().without_max_times().build()
}

async fn wait_for_store(error: &StoreError, delays: &mut ExponentialBackoff) {
    tracing::debug!(error = %ErrorChain(error), "push notifications wait for the store");
    sleep(delays.next().unwrap_or(CLAIM_LIFETIME)).await;
}
