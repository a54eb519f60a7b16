use super::*;
use tokio::runtime::Builder;

#[tokio::test(start_paused = true)]
async fn actor_that_panics_is_replaced() {
    let fixture = RuntimeFixture::new(&ScriptedModel::new(vec![vec![text("done")]])).await;
    fixture.store.panicking.store(1, Ordering::SeqCst);
    fixture.say("hi").await;
    fixture.rest(ApprovalDecision::Approve).await;
    let finished = |e: &&Arc<SessionEvent>| matches!(e.body, EventBody::RunFinished(_));
    assert_eq!(fixture.log().await.iter().filter(finished).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_thread_that_ends_move_to_another() {
    let gate = TestGate::new();
    let model = ScriptedModel::new(vec![vec![text("a"), ReplyStep::Wait(gate.clone())], vec![text("b")]]);
    let fixture = Arc::new(RuntimeFixture::new(&model).await);
    let on_worker = fixture.clone();
    let live_on_worker = move || {
        let worker = Builder::new_current_thread().enable_all().build().unwrap();
        worker.block_on(async {
            on_worker.sessions.add_worker_thread();
            on_worker.say("hi").await;
            gate.arrived().await;
        });
    };
    tokio::task::spawn_blocking(|| std::thread::spawn(live_on_worker).join().unwrap()).await.unwrap();
    fixture.rest(ApprovalDecision::Approve).await;
    let log = fixture.log().await;
    assert!(log.iter().any(|e| matches!(e.body, EventBody::RunRecovered(_))), "the run was in progress");
    assert!(matches!(log.last().unwrap().body, EventBody::RunFinished(_)));
}
