//! What is written before the first token.

use super::*;

impl RuntimeFixture {
    /// The writes so far that wait for durability: commits, and commands that were put into the inbox.
    fn writes(&self) -> (usize, usize) {
        (self.store.commits.load(Ordering::SeqCst), self.store.submits.load(Ordering::SeqCst))
    }

    /// Sends a message, and returns what is written until its first token is shown.
    async fn writes_before_first_token(&self, content: &str) -> (usize, usize) {
        let before = self.writes();
        let receipt = self.say(content).await;
        let mut cursor = self.sessions.open_cursor(&self.user, self.session, receipt.seq).await.unwrap();
        while !matches!(cursor.next().await.unwrap(), Some(StreamFrame::Transient(TransientEvent::Token(_)))) {}
        let after = self.writes();
        (after.0 - before.0, after.1 - before.1)
    }
}

fn slow_replies(gates: &[TestGate]) -> Arc<ScriptedModel> {
    ScriptedModel::new(gates.iter().map(|gate| vec![text("said"), ReplyStep::Wait(gate.clone())]))
}

#[tokio::test]
async fn one_write_comes_before_the_first_token() {
    let gates = [TestGate::new(), TestGate::new(), TestGate::new()];
    let fixture = RuntimeFixture::new(&slow_replies(&gates)).await;
    // Without an owner, with one, and with one that was released.
    for (n, gate) in gates.iter().enumerate() {
        assert_eq!(fixture.writes_before_first_token("hi").await, (1, 0), "message {n}");
        gate.open();
        fixture.rest(ApprovalDecision::Approve).await;
    }
}

#[tokio::test]
async fn owner_of_a_shared_store_writes_once_before_the_first_token() {
    let gates = [TestGate::new(), TestGate::new()];
    let fixture = RuntimeFixture::with_shared_store(&slow_replies(&gates)).await;
    // Another process may be the owner of the session.
    for (gate, expected) in gates.iter().zip([(1, 1), (1, 0)]) {
        assert_eq!(fixture.writes_before_first_token("hi").await, expected);
        gate.open();
        fixture.rest(ApprovalDecision::Approve).await;
    }
}

#[tokio::test]
async fn message_whose_start_is_not_written_is_answered_once() {
    let fixture = RuntimeFixture::new(&ScriptedModel::new([vec![text("hello")], vec![text("again")]])).await;
    for (content, failures) in [("hi", 1), ("more", 1)] {
        fixture.store.failing.store(failures, Ordering::SeqCst);
        let receipt = fixture.say(content).await;
        assert!(!receipt.duplicate);
        fixture.rest(ApprovalDecision::Approve).await;
    }
    let log = fixture.log().await;
    let messages = log.iter().filter(|event| event.body.event_type() == "user_message").count();
    let ends = log.iter().filter(|event| event.body.event_type() == "run_finished").count();
    assert_eq!((messages, ends), (2, 2));
    assert_eq!(fixture.store.submits.load(Ordering::SeqCst), 2, "by way of the inbox");
}

#[tokio::test]
async fn message_that_is_being_accepted_counts_as_a_run() {
    let gate = TestGate::new();
    let fixture = RuntimeFixture::new(&ScriptedModel::new([vec![text("hello")]])).await;
    *fixture.store.slow.lock() = Some(gate.clone());
    let (said, ()) = tokio::join!(fixture.submit(message("hi", OnBusy::Enqueue)), async {
        gate.arrived().await;
        let limits = CapacityLimits { sessions_per_user: 9, runs: 1, runs_per_user: 9 };
        let other = fixture.sessions.0.admission.reserve(&limits, SessionId::new(), &fixture.user);
        assert!(matches!(other, Err(SessionsError::Overloaded(1))), "{other:?}");
        gate.open();
    });
    said.unwrap();
}

#[tokio::test]
async fn message_that_is_being_accepted_is_refused_when_its_session_is_deleted() {
    let gate = TestGate::new();
    let fixture = RuntimeFixture::new(&ScriptedModel::new([vec![text("hello")]])).await;
    *fixture.store.slow.lock() = Some(gate.clone());
    let (said, ()) = tokio::join!(fixture.submit(message("hi", OnBusy::Enqueue)), async {
        gate.arrived().await;
        fixture.sessions.delete_session(&fixture.user, fixture.session).await.unwrap();
        gate.open();
    });
    assert!(
        matches!(said, Err(SessionsError::NotFound(_) | SessionsError::Store(StoreError::NotFound(_)))),
        "{said:?}"
    );
}
