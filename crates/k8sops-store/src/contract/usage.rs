//! What users use.

use std::sync::Arc;

use super::new_session;
use k8sops_core::{DailyUsage, ModelUsage, SessionId, SessionStore, TokenUsage, UsageDay, UserDailyUsage, UserId};

fn spent(day: UsageDay, tokens: u64) -> DailyUsage {
    let usage = TokenUsage { input_tokens: tokens, ..TokenUsage::default() };
    DailyUsage { day, models: vec![ModelUsage { provider: "p".into(), model: "m/x:1".into(), usage }] }
}

async fn read(store: &dyn SessionStore, user: &UserId, day: UsageDay) -> Vec<(SessionId, u64)> {
    let days = store.read_usage(user, &[day]).await.expect("read");
    let sessions = days[0].sessions.iter();
    sessions.map(|(session, models)| (*session, models.iter().map(|m| m.usage.input_tokens).sum())).collect()
}

pub(super) async fn what_is_used_is_kept_by_user_and_day_and_outlives_its_session(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let (anna, ben): (UserId, UserId) = ("anna".parse().expect("an id"), "ben@example.com".parse().expect("an id"));
    let today = UsageDay::today();
    let (one, two) = (new_session(store).await, new_session(store).await);
    assert_eq!(read(store, &anna, today).await, []);
    // Noted anew it is not added: a note is what the session has used so far.
    for tokens in [5, 7] {
        store.record_usage(&anna, one, &spent(today, tokens)).await.expect("noted");
    }
    store.record_usage(&anna, two, &spent(today, 20)).await.expect("noted");
    store.record_usage(&anna, one, &spent(today.add_days(-1), 100)).await.expect("noted");
    store.record_usage(&ben, one, &spent(today, 1)).await.expect("noted");
    let mut expected = vec![(one, 7), (two, 20)];
    expected.sort();
    assert_eq!(read(store, &anna, today).await, expected);
    let days = store.read_usage(&anna, &[today.add_days(-2), today.add_days(-1), today]).await.expect("read");
    assert_eq!(days.iter().map(|day| day.sessions.len()).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(read(store, &ben, today).await, [(one, 1)]);
    store.delete_session(one).await.expect("deleted");
    // Noted once more, when what was said in it has been looked at; then never again.
    store.record_usage(&anna, one, &spent(today, 8)).await.expect("noted");
    store.close_session_usage(&anna, one).await.expect("closed");
    let days = store.read_usage(&anna, &[today, today.add_days(-1)]).await.expect("read");
    let used = |day: &UserDailyUsage| day.all_usage().map(|m| m.usage.input_tokens).sum::<u64>();
    assert_eq!(days.iter().map(|day| (day.session_count(), used(day))).collect::<Vec<_>>(), [(2, 28), (1, 100)]);
}
