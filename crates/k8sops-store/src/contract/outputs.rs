//! Whole outputs of tool calls.

use std::{sync::Arc, time::Duration};

use super::new_session;
use k8sops_core::{SessionStore, StoreError, ToolCallId};

pub(super) async fn whole_outputs_are_read_in_parts_and_gone_with_their_session(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let (session, other) = (new_session(store).await, new_session(store).await);
    let call = ToolCallId::generate();
    // Longer than any piece that a store may cut it into, and compressible as what clusters print is.
    let output = (0..60_000).fold(String::new(), |text, n| text + &format!("line {n} of päyments\n"));
    let room = 1 << 30;
    let kept = store.save_output(session, &call, output.as_str().into(), room).await.expect("kept");
    assert_eq!(kept, output.len() as u64);
    for (offset, limit) in [(0, 10), (5, 0), (262_140, 10), (700_000, 600_000), (0, usize::MAX), (1 << 40, 10)] {
        let part = store.read_output(session, &call, offset, limit).await.expect("read").expect("it is kept");
        let start = usize::try_from(offset).expect("64 bits").min(output.len());
        let end = start.saturating_add(limit).min(output.len());
        assert!(part.bytes == output.as_bytes()[start..end], "{limit} bytes from {offset} on");
        assert_eq!(part.total, output.len() as u64);
    }
    assert_eq!(store.read_output(session, &ToolCallId::generate(), 0, 10).await.expect("read"), None);
    assert_eq!(store.read_output(other, &call, 0, 10).await.expect("read"), None);
    // Kept again, it is another.
    store.save_output(session, &call, "short".into(), room).await.expect("kept");
    let part = store.read_output(session, &call, 0, 100).await.expect("read").expect("it is kept");
    assert_eq!((part.bytes.as_slice(), part.total), (b"short".as_slice(), 5));

    store.delete_session(session).await.expect("deleted");
    assert_eq!(store.read_output(session, &call, 0, 10).await.expect("read"), None);
    let late = store.save_output(session, &call, "late".into(), room).await;
    assert!(matches!(late, Err(StoreError::NotFound(_))), "{late:?}");
    assert_eq!(store.read_output(session, &call, 0, 10).await.expect("read"), None);
}

pub(super) async fn the_newest_outputs_take_the_room_of_the_oldest(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = new_session(store).await;
    let calls: Vec<ToolCallId> = (0..4).map(|_| ToolCallId::generate()).collect();
    for (call, output) in calls.iter().zip(["aaaa", "bbbb", "cc", "ddd"]) {
        assert_eq!(store.save_output(session, call, output.into(), 10).await.expect("kept"), output.len() as u64);
        // The files of a file system tell their age by its clock.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut kept = Vec::new();
    for call in &calls {
        kept.push(store.read_output(session, call, 0, 10).await.expect("read").is_some());
    }
    assert_eq!(kept, [false, true, true, true]);
    // Of one that is too large the beginning is kept, in whole characters.
    let long = ToolCallId::generate();
    assert_eq!(store.save_output(session, &long, "123456789ä".into(), 10).await.expect("kept"), 9);
    assert_eq!(store.read_output(session, &calls[3], 0, 10).await.expect("read"), None);
}

pub(super) async fn the_key_of_a_deployment_stays_the_same(store: Arc<dyn SessionStore>) {
    let key = store.deployment_key().await.expect("a key");
    assert_ne!(key, [0; 32]);
    assert_eq!(store.deployment_key().await.expect("a key"), key);
}
