//! Messages that the owner of their session does not accept in time, or not at all.

use tracing::span;
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt as _},
    registry::LookupSpan,
};

use super::*;

/// More than any limit, and passed at once by a paused clock.
const LONG: Duration = Duration::from_mins(10);

impl RuntimeFixture {
    /// Fails if a message is not accepted at all.
    async fn say_in_time(&self, content: &str) -> CommandReceipt {
        tokio::time::timeout(LONG, self.say(content)).await.expect("a message waits for the owner without limit")
    }

    /// Makes the owner wait in a commit until the gate is opened.
    async fn stall_owner(&self) -> TestGate {
        let gate = TestGate::new();
        *self.store.slow.lock() = Some(gate.clone());
        self.submit(CommandBody::Title { title: "t".into() }).await.unwrap();
        gate.arrived().await;
        *self.store.slow.lock() = None;
        gate
    }

    /// Waits, with a paused clock, until every task waits for a gate or for a time.
    async fn let_all_come_to_rest(&self) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    /// Waits until capacity is reserved for a message, whose session was found to be idle then.
    async fn wait_for_admission(&self) {
        let limits = CapacityLimits { sessions_per_user: 9, runs: 1, runs_per_user: 9 };
        let other = SessionId::new();
        while self.sessions.0.admission.reserve(&limits, other, &self.user).is_ok() {
            self.sessions.0.admission.release(other);
            yield_now().await;
        }
    }

    async fn contents(&self) -> Vec<String> {
        let messages = self.log().await.into_iter().filter_map(|event| match &event.body {
            EventBody::UserMessage(message) => Some(message.content.clone()),
            _ => None,
        });
        messages.collect()
    }
}

#[tokio::test(start_paused = true)]
async fn message_that_an_owner_does_not_accept_in_time_is_put_into_the_inbox() {
    let fixture = RuntimeFixture::new(&ScriptedModel::new([])).await;
    let gate = TestGate::new();
    *fixture.store.slow.lock() = Some(gate.clone());
    let receipt = fixture.say_in_time("hi").await;
    assert!(!receipt.duplicate);
    assert_eq!(fixture.store.submits.load(Ordering::SeqCst), 1);
    // The owner gets to its commit after all.
    *fixture.store.slow.lock() = None;
    gate.open();
    fixture.rest(ApprovalDecision::Approve).await;
    assert_eq!(fixture.contents().await, ["hi"]);
    assert_eq!(fixture.log().await.last().unwrap().run_id, receipt.run_id);
}

#[tokio::test(start_paused = true)]
async fn message_that_is_accepted_late_is_not_doubled() {
    let fixture = RuntimeFixture::new(&ScriptedModel::new([])).await;
    let (commit, submission) = (TestGate::new(), TestGate::new());
    *fixture.store.slow.lock() = Some(commit.clone());
    *fixture.store.slow_submits.lock() = Some(submission.clone());
    let (receipt, ()) = tokio::join!(fixture.say_in_time("hi"), async {
        commit.arrived().await;
        submission.arrived().await;
        *fixture.store.slow.lock() = None;
        commit.open();
        fixture.let_all_come_to_rest().await;
        assert_eq!(fixture.contents().await, ["hi"], "accepted before it is submitted");
        submission.open();
    });
    assert!(!receipt.duplicate, "it was sent once");
    fixture.rest(ApprovalDecision::Approve).await;
    assert_eq!(fixture.contents().await, ["hi"]);
    assert_eq!(fixture.log().await.last().unwrap().run_id, receipt.run_id);
}

#[tokio::test(start_paused = true)]
async fn owner_drops_a_message_whose_sender_has_gone_to_the_inbox() {
    let fixture = RuntimeFixture::new(&ScriptedModel::new([])).await;
    let owner = fixture.stall_owner().await;
    let submission = TestGate::new();
    *fixture.store.slow_submits.lock() = Some(submission.clone());
    tokio::join!(fixture.say_in_time("hi"), async {
        submission.arrived().await;
        owner.open();
        fixture.let_all_come_to_rest().await;
        assert_eq!(fixture.contents().await, [""; 0], "the owner commits an offer that was taken back");
        submission.open();
    });
    fixture.rest(ApprovalDecision::Approve).await;
    assert_eq!(fixture.contents().await, ["hi"]);
}

#[tokio::test(start_paused = true)]
async fn message_that_its_owner_still_accepts_is_not_refused() {
    let fixture = RuntimeFixture::new(&ScriptedModel::new([])).await;
    let commit = TestGate::new();
    *fixture.store.slow.lock() = Some(commit.clone());
    fixture.store.failing_submits.store(1, Ordering::SeqCst);
    let (receipt, ()) = tokio::join!(fixture.say_in_time("hi"), async {
        commit.arrived().await;
        fixture.let_all_come_to_rest().await;
        assert_eq!(fixture.store.failing_submits.load(Ordering::SeqCst), 0, "the submission has failed");
        *fixture.store.slow.lock() = None;
        commit.open();
    });
    fixture.rest(ApprovalDecision::Approve).await;
    assert_eq!(fixture.contents().await, ["hi"]);
    assert_eq!(fixture.log().await.last().unwrap().run_id, receipt.run_id);
}

#[tokio::test(start_paused = true)]
async fn message_that_is_refused_is_not_accepted_later() {
    let fixture = RuntimeFixture::new(&ScriptedModel::new([])).await;
    let owner = fixture.stall_owner().await;
    fixture.store.failing_submits.store(1, Ordering::SeqCst);
    let refused = tokio::time::timeout(LONG, fixture.submit(message("hi", OnBusy::Enqueue))).await.unwrap();
    assert!(matches!(refused, Err(SessionsError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    owner.open();
    fixture.let_all_come_to_rest().await;
    assert_eq!(fixture.contents().await, [""; 0]);
}

#[tokio::test]
async fn message_that_is_declined_for_another_run_is_announced_as_queued() {
    let gate = TestGate::new();
    let fixture = RuntimeFixture::new(&ScriptedModel::new([vec![ReplyStep::Wait(gate.clone()), text("a")]])).await;
    let owner = fixture.stall_owner().await;
    let mut account = fixture.sessions.watch_account(&fixture.user);
    let (receipt, ()) = tokio::join!(fixture.say("second"), async {
        fixture.wait_for_admission().await;
        // Of another process: this one is not notified of it.
        let first = SessionCommand {
            command_id: CommandId::generate(),
            fingerprint: String::new(),
            by: fixture.user.clone(),
            body: message("first", OnBusy::Enqueue),
        };
        fixture.store.inner().submit_command(fixture.session, first).await.unwrap();
        owner.open();
    });
    let queued = loop {
        if let AccountNews::Change(change) = account.next().await
            && let AccountChange::Queued(queued) = &*change
        {
            break queued.clone();
        }
    };
    assert_eq!(Some(queued.run_id), receipt.run_id);
    gate.open();
    fixture.rest(ApprovalDecision::Approve).await;
    assert_eq!(fixture.contents().await, ["first", "second"]);
}

/// Counts the spans of runs that were opened, and those that were closed.
#[derive(Clone, Default)]
struct RunSpanCounter(Arc<[AtomicUsize; 2]>);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for RunSpanCounter {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        if attributes.metadata().name() == "run" {
            self.0[0].fetch_add(1, Ordering::SeqCst);
        }
    }

    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        if context.span(&id).is_some_and(|span| span.name() == "run") {
            self.0[1].fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test]
async fn run_of_a_declined_message_has_one_span() {
    let spans = RunSpanCounter::default();
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()));
    let counts = || spans.0.each_ref().map(|count| count.load(Ordering::SeqCst));
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("a")], vec![text("b"), ReplyStep::Wait(gate.clone())]]);
    let fixture = RuntimeFixture::new(&model).await;
    fixture.say("first").await;
    fixture.rest(ApprovalDecision::Approve).await;
    assert_eq!(counts(), [1, 1]);
    // The owner is not notified of this command, so that its store declines the next message.
    let title = SessionCommand {
        command_id: CommandId::generate(),
        fingerprint: String::new(),
        by: fixture.user.clone(),
        body: CommandBody::Title { title: "t".into() },
    };
    fixture.store.inner().submit_command(fixture.session, title).await.unwrap();
    let submits = fixture.store.submits.load(Ordering::SeqCst);
    fixture.say("second").await;
    assert_eq!(fixture.store.submits.load(Ordering::SeqCst), submits + 1, "it was declined");
    gate.arrived().await;
    assert_eq!(counts(), [2, 1]);
    gate.open();
    fixture.rest(ApprovalDecision::Approve).await;
    assert_eq!(counts(), [2, 2]);
}
