//! The streams that wait for a change of a feed.

use std::task::Waker;

/// Names one stream of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaiterId(u64);

/// The streams that wait. It is part of what the feed's lock guards, so that waiting takes no lock of its own.
#[derive(Debug, Default)]
pub(crate) struct FeedWaiters {
    waiting: Vec<(WaiterId, Waker)>,
    next_id: u64,
}

impl FeedWaiters {
    pub(crate) fn create_id(&mut self) -> WaiterId {
        self.next_id += 1;
        WaiterId(self.next_id)
    }

    /// Has a stream woken at the next change.
    pub(crate) fn register(&mut self, id: WaiterId, waker: &Waker) {
        match self.waiting.iter_mut().find(|(waiting, _)| *waiting == id) {
            Some((_, registered)) => registered.clone_from(waker),
            None => self.waiting.push((id, waker.clone())),
        }
    }

    pub(crate) fn remove(&mut self, id: WaiterId) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
    }

    /// Takes the streams that wait, to be woken when the feed is no longer locked: a waker may run any code.
    pub(crate) fn take(&mut self) -> WaitingStreams {
        // Most feeds have one stream, which is moved without an allocation.
        if self.waiting.len() > 1 {
            WaitingStreams::Many(std::mem::take(&mut self.waiting))
        } else {
            WaitingStreams::One(self.waiting.pop().map(|(_, waker)| waker))
        }
    }
}

/// Streams that waited for a change.
#[must_use = "streams that are not woken miss the change"]
pub(crate) enum WaitingStreams {
    One(Option<Waker>),
    Many(Vec<(WaiterId, Waker)>),
}

impl WaitingStreams {
    pub(crate) fn wake(self) {
        match self {
            Self::One(waker) => waker.into_iter().for_each(Waker::wake),
            Self::Many(waiting) => waiting.into_iter().for_each(|(_, waker)| waker.wake()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_waits_once() {
        let mut waiters = FeedWaiters::default();
        let [first, second, third] = [(); 3].map(|()| waiters.create_id());
        for id in [first, second, third, first, second] {
            waiters.register(id, Waker::noop());
        }
        waiters.remove(second);
        let ids: Vec<_> = waiters.waiting.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [first, third]);
        assert!(matches!(waiters.take(), WaitingStreams::Many(both) if both.len() == 2));
        assert!(matches!(waiters.take(), WaitingStreams::One(None)), "a woken stream registers itself again");
        waiters.register(third, Waker::noop());
        assert!(matches!(waiters.take(), WaitingStreams::One(Some(_))));
        assert!(waiters.waiting.is_empty());
    }
}
