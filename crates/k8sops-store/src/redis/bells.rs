//! The doorbells: one connection for all that this process listens to, connected again whenever it breaks.

use std::{collections::HashSet, time::Duration};

use futures_util::StreamExt;
use redis::{Msg, RedisResult, aio::PubSub};
use tokio::{
    sync::{Mutex, mpsc},
    time::{interval, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use std::sync::Arc;

use super::{keys::Keys, link::Link};
use k8sops_core::{NotificationTopic, SessionId, StoreNotification};

/// How often the connection is asked if it still is one, and how long it may take to say so.
const PING: Duration = Duration::from_secs(3);
/// The waits before connecting again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Channels that are subscribed to by one command.
const AT_ONCE: usize = 500;
/// Rings that wait to be heard; when there are more, one that stands for all is heard instead.
const WAITING: usize = 4096;

pub(super) struct Bells {
    changes: mpsc::UnboundedSender<Change>,
    rings: Mutex<mpsc::Receiver<StoreNotification>>,
    _task: AbortOnDropHandle<()>,
}

enum Change {
    Listen(SessionId, NotificationTopic),
    Leave(SessionId, NotificationTopic),
}

impl Bells {
    /// Must be called on a runtime.
    pub(super) fn new(link: Arc<Link>, keys: Keys) -> Self {
        let (changes, to_do) = mpsc::unbounded_channel();
        let (out, rings) = mpsc::channel(WAITING);
        let task = Listener { link, keys, channels: HashSet::new(), out, missed: false };
        Self { changes, rings: Mutex::new(rings), _task: AbortOnDropHandle::new(tokio::spawn(task.run(to_do))) }
    }

    pub(super) fn listen(&self, session: SessionId, topic: NotificationTopic) {
        // The listener ends with this, so that it is there.
        let _ = self.changes.send(Change::Listen(session, topic));
    }

    pub(super) fn leave(&self, session: SessionId, topic: NotificationTopic) {
        let _ = self.changes.send(Change::Leave(session, topic));
    }

    pub(super) async fn ring(&self) -> StoreNotification {
        match self.rings.lock().await.recv().await {
            Some(ring) => ring,
            None => std::future::pending().await,
        }
    }
}

struct Listener {
    link: Arc<Link>,
    keys: Keys,
    /// What is listened to, but for the channel of the work.
    channels: HashSet<(SessionId, NotificationTopic)>,
    out: mpsc::Sender<StoreNotification>,
    /// A ring found no room.
    missed: bool,
}

impl Listener {
    async fn run(mut self, mut to_do: mpsc::UnboundedReceiver<Change>) {
        let mut wait = RETRY.0;
        loop {
            let mut connection = match self.connect().await {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::debug!(%error, "no connection for notifications; trying again");
                    sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                    continue;
                }
            };
            wait = RETRY.0;
            // Rings before now were for nobody.
            self.tell(StoreNotification::All);
            match self.attend(&mut connection, &mut to_do).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(%error, "the connection for notifications broke; connecting again"),
            }
        }
    }

    async fn connect(&self) -> RedisResult<PubSub> {
        let mut connection = self.link.pubsub().await?;
        connection.subscribe(self.keys.work_channel()).await?;
        let channels: Vec<String> = self.channels.iter().map(|(s, topic)| self.keys.channel(*s, *topic)).collect();
        for some in channels.chunks(AT_ONCE) {
            connection.subscribe(some).await?;
        }
        Ok(connection)
    }

    /// Passes rings on until the connection breaks; or until nobody wants any.
    async fn attend(
        &mut self,
        connection: &mut PubSub,
        to_do: &mut mpsc::UnboundedReceiver<Change>,
    ) -> RedisResult<()> {
        let mut ping = interval(PING);
        ping.reset();
        let mut changes = Vec::new();
        loop {
            let heard = {
                let mut messages = connection.on_message();
                tokio::select! {
                    message = messages.next() => match message {
                        Some(message) => Heard::Message(message),
                        None => return Err(broken("closed by the server")),
                    },
                    count = to_do.recv_many(&mut changes, AT_ONCE) => {
                        if count == 0 {
                            return Ok(());
                        }
                        Heard::Changes
                    }
                    _ = ping.tick() => Heard::Tick,
                }
            };
            match heard {
                Heard::Message(message) => self.pass_on(&message),
                Heard::Changes => self.change(connection, changes.drain(..)).await?,
                Heard::Tick => {
                    if self.missed {
                        self.missed = false;
                        self.tell(StoreNotification::All);
                    }
                    let answer = timeout(PING, connection.ping::<redis::Value>()).await;
                    answer.map_err(|_| broken("no answer"))??;
                }
            }
        }
    }

    async fn change(&mut self, connection: &mut PubSub, changes: impl Iterator<Item = Change>) -> RedisResult<()> {
        let (mut more, mut fewer) = (Vec::new(), Vec::new());
        for change in changes {
            // The set first: what it holds is what a new connection subscribes to.
            match change {
                Change::Listen(session, topic) if self.channels.insert((session, topic)) => more.push((session, topic)),
                Change::Leave(session, topic) if self.channels.remove(&(session, topic)) => {
                    fewer.push(self.keys.channel(session, topic));
                }
                Change::Listen(..) | Change::Leave(..) => {}
            }
        }
        // One that came and went among these is left at the end, and one that went and came is not.
        fewer.retain(|channel| self.keys.parse_channel(channel).is_none_or(|c| !self.channels.contains(&c)));
        if !fewer.is_empty() {
            connection.unsubscribe(&fewer).await?;
        }
        more.retain(|channel| self.channels.contains(channel));
        if !more.is_empty() {
            let names: Vec<String> = more.iter().map(|(session, topic)| self.keys.channel(*session, *topic)).collect();
            connection.subscribe(&names).await?;
            for (session, topic) in more {
                self.tell(StoreNotification::Session(session, topic));
            }
        }
        Ok(())
    }

    fn pass_on(&mut self, message: &Msg) {
        let channel = message.get_channel_name();
        if channel == self.keys.work_channel() {
            self.tell(StoreNotification::Unfinished);
        } else if let Some((session, topic)) = self.keys.parse_channel(channel) {
            self.tell(StoreNotification::Session(session, topic));
        }
    }

    fn tell(&mut self, ring: StoreNotification) {
        self.missed |= self.out.try_send(ring).is_err();
    }
}

enum Heard {
    Message(Msg),
    Changes,
    Tick,
}

fn broken(why: &'static str) -> redis::RedisError {
    std::io::Error::new(std::io::ErrorKind::ConnectionReset, why).into()
}
