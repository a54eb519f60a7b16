//! Several replicas: one delivers, and another one continues where it left off.

use super::*;

#[tokio::test(start_paused = true)]
async fn one_of_several_replicas_delivers() {
    let fixture = Fixture::shared();
    let replicas: Vec<_> = (0..3).map(|_| fixture.start_replica()).collect();
    let task = task();
    fixture.source.commit([1]);
    replicas[1].save_config(&config(&task, "a"), FROM_START).await.unwrap();
    fixture.receiver.has_accepted(URL, &["1"]).await;
    for seq in 2..20 {
        // All replicas look several times meanwhile.
        tokio::time::sleep(Duration::from_secs(7)).await;
        fixture.source.commit([seq]);
    }
    fixture.source.end();
    fixture.all_delivered().await;
    let expected: Vec<_> = (1..20).map(|seq| seq.to_string()).collect();
    assert_eq!(fixture.receiver.accepted(URL), expected);
    // Any replica serves the configuration.
    assert_eq!(replicas[2].list_configs(&task).await.unwrap().len(), 1);
    for replica in &replicas {
        replica.shutdown().await;
    }
    assert_eq!(fixture.store.list_records(&RecordGroup::push_claims()).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn replica_that_shuts_down_hands_its_deliveries_over() {
    let fixture = Fixture::shared();
    let first = fixture.start_replica();
    fixture.source.commit([1]);
    first.save_config(&config(&task(), "a"), FROM_START).await.unwrap();
    fixture.receiver.has_accepted(URL, &["1"]).await;
    first.shutdown().await;
    fixture.source.commit([2, 3]);
    fixture.source.end();
    let second = fixture.start_replica();
    fixture.all_delivered().await;
    assert_eq!(fixture.receiver.accepted(URL), ["1", "2", "3"]);
    second.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn delivery_of_a_killed_replica_is_continued_once_its_claim_expires() {
    let fixture = Fixture::shared();
    // What a replica leaves that is killed after the event and before the delivery.
    let killed = PushStore::new(fixture.store.clone(), "killed".into());
    killed.save_config(&config(&task(), "a"), FROM_START).await.unwrap();
    let listed = killed.list_deliveries().await.unwrap();
    let id = listed.iter().next().unwrap();
    assert_eq!(killed.claim_delivery(id).await.unwrap(), push_store::ClaimOutcome::Held);
    fixture.source.commit([1, 2]);
    fixture.source.end();
    let next = PushStore::new(fixture.store.clone(), "next".into());
    assert_eq!(next.claim_delivery(id).await.unwrap(), push_store::ClaimOutcome::Lost);
    assert_eq!(killed.claim_delivery(id).await.unwrap(), push_store::ClaimOutcome::Held);
    let replica = fixture.start_replica();
    // As if the lifetime of the claim had passed.
    killed.release_claim(id).await.unwrap();
    fixture.all_delivered().await;
    assert_eq!(fixture.receiver.accepted(URL), ["1", "2"]);
    replica.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn replica_whose_claim_was_taken_stops() {
    let fixture = Fixture::shared();
    let slow = fixture.start_replica();
    fixture.source.commit([1]);
    slow.save_config(&config(&task(), "a"), FROM_START).await.unwrap();
    fixture.receiver.has_accepted(URL, &["1"]).await;
    let other = PushStore::new(fixture.store.clone(), "other".into());
    let listed = other.list_deliveries().await.unwrap();
    let id = listed.iter().next().unwrap();
    other.release_claim(id).await.unwrap();
    assert_eq!(other.claim_delivery(id).await.unwrap(), push_store::ClaimOutcome::Held);
    // Longer than the interval in which claims are extended.
    tokio::time::sleep(Duration::from_secs(8)).await;
    fixture.source.commit([2]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(fixture.receiver.accepted(URL), ["1"]);
    slow.shutdown().await;
    // The claim of the other replica is not released.
    assert_eq!(other.list_claimed().await.unwrap(), listed);
}
