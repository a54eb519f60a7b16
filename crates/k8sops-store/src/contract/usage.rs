//! Rules of usage.

use std::sync::Arc;

use super::fixtures::{create_test_session, test_user};
use k8sops_core::{DailyUsage, ModelUsage, SessionId, SessionStore, TokenUsage, UsageDay, UserDailyUsage, UserId};

fn daily_usage(day: UsageDay, tokens: u64) -> DailyUsage {
    let usage = TokenUsage { input_tokens: tokens, ..TokenUsage::default() };
    DailyUsage { day, models: vec![ModelUsage { provider: "p".into(), model: "m/x:1".into(), usage }] }
}

async fn read_tokens(store: &dyn SessionStore, user: &UserId, day: UsageDay) -> Vec<(SessionId, u64)> {
    let days = store.read_usage(user, &[day]).await.unwrap();
    let sessions = days[0].sessions.iter();
    sessions.map(|(session, models)| (*session, models.iter().map(|m| m.usage.input_tokens).sum())).collect()
}

pub(super) async fn usage_is_kept_by_user_and_day(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let anna = test_user("anna");
    let ben = test_user("ben@example.com");
    let today = UsageDay::today();
    let one = create_test_session(store).await;
    let two = create_test_session(store).await;
    assert_eq!(read_tokens(store, &anna, today).await, []);
    // A record replaces the earlier one of the same session and day.
    for tokens in [5, 7] {
        store.record_usage(&anna, one, &daily_usage(today, tokens)).await.unwrap();
    }
    store.record_usage(&anna, two, &daily_usage(today, 20)).await.unwrap();
    store.record_usage(&anna, one, &daily_usage(today.add_days(-1), 100)).await.unwrap();
    store.record_usage(&ben, one, &daily_usage(today, 1)).await.unwrap();
    let mut expected = vec![(one, 7), (two, 20)];
    expected.sort();
    assert_eq!(read_tokens(store, &anna, today).await, expected);
    let days = store.read_usage(&anna, &[today.add_days(-2), today.add_days(-1), today]).await.unwrap();
    assert_eq!(days.iter().map(|day| day.sessions.len()).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(read_tokens(store, &ben, today).await, [(one, 1)]);
    store.delete_session(one).await.unwrap();
    // The extraction of memories after the deletion records usage once more, and then the session is closed.
    store.record_usage(&anna, one, &daily_usage(today, 8)).await.unwrap();
    store.close_session_usage(&anna, one).await.unwrap();
    let days = store.read_usage(&anna, &[today, today.add_days(-1)]).await.unwrap();
    let used = |day: &UserDailyUsage| day.all_usage().map(|m| m.usage.input_tokens).sum::<u64>();
    assert_eq!(days.iter().map(|day| (day.session_count(), used(day))).collect::<Vec<_>>(), [(2, 28), (1, 100)]);
}
