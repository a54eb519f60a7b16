//! Rules of tool outputs.

use std::{sync::Arc, time::Duration};

use super::fixtures::create_test_session;
use k8sops_core::{SessionStore, StoreError, ToolCallId};

pub(super) async fn outputs_are_read_in_parts_and_deleted_with_their_session(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let (session, other) = (create_test_session(store).await, create_test_session(store).await);
    let call = ToolCallId::generate();
    // Longer than any chunk of a store, and as compressible as the output of clusters.
    let output = (0..60_000).fold(String::new(), |text, n| text + &format!("line {n} of päyments\n"));
    let room = 1 << 30;
    let kept = store.save_output(session, &call, output.as_str().into(), room).await.unwrap();
    assert_eq!(kept, output.len() as u64);
    for (offset, limit) in [(0, 10), (5, 0), (262_140, 10), (700_000, 600_000), (0, usize::MAX), (1 << 40, 10)] {
        let part = store.read_output(session, &call, offset, limit).await.unwrap().unwrap();
        let start = usize::try_from(offset).unwrap().min(output.len());
        let end = start.saturating_add(limit).min(output.len());
        assert!(part.bytes == output.as_bytes()[start..end], "{limit} bytes from {offset} on");
        assert_eq!(part.total, output.len() as u64);
    }
    assert_eq!(store.read_output(session, &ToolCallId::generate(), 0, 10).await.unwrap(), None);
    assert_eq!(store.read_output(other, &call, 0, 10).await.unwrap(), None);
    // An output that is saved again replaces the old one.
    store.save_output(session, &call, "short".into(), room).await.unwrap();
    let part = store.read_output(session, &call, 0, 100).await.unwrap().unwrap();
    assert_eq!((part.bytes.as_slice(), part.total), (b"short".as_slice(), 5));

    store.delete_session(session).await.unwrap();
    assert_eq!(store.read_output(session, &call, 0, 10).await.unwrap(), None);
    let late = store.save_output(session, &call, "late".into(), room).await;
    assert!(matches!(late, Err(StoreError::NotFound(_))), "{late:?}");
    assert_eq!(store.read_output(session, &call, 0, 10).await.unwrap(), None);
}

pub(super) async fn oldest_outputs_are_dropped_at_the_limit(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let session = create_test_session(store).await;
    let calls: Vec<ToolCallId> = (0..4).map(|_| ToolCallId::generate()).collect();
    for (call, output) in calls.iter().zip(["aaaa", "bbbb", "cc", "ddd"]) {
        assert_eq!(store.save_output(session, call, output.into(), 10).await.unwrap(), output.len() as u64);
        // The filesystem store sorts outputs by the modification times of their files.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut kept = Vec::new();
    for call in &calls {
        kept.push(store.read_output(session, call, 0, 10).await.unwrap().is_some());
    }
    assert_eq!(kept, [false, true, true, true]);
    // An output larger than the limit is cut to whole characters.
    let long = ToolCallId::generate();
    assert_eq!(store.save_output(session, &long, "123456789ä".into(), 10).await.unwrap(), 9);
    assert_eq!(store.read_output(session, &calls[3], 0, 10).await.unwrap(), None);
}

pub(super) async fn deployment_key_is_stable(store: Arc<dyn SessionStore>) {
    let key = store.deployment_key().await.unwrap();
    assert_ne!(key, [0; 32]);
    assert_eq!(store.deployment_key().await.unwrap(), key);
}
