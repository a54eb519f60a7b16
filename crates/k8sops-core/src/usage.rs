//! What users use, by day.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ids::SessionId, message::TokenUsage, time::Timestamp};

/// How many days usage is kept: a year, and a month to look back at it.
pub const USAGE_RETENTION_DAYS: i64 = 400;

const MS_PER_DAY: i64 = 24 * 60 * 60 * 1000;

/// A day in UTC; `2026-11-23` in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UsageDay(i64);

impl UsageDay {
    /// The day of a point in time.
    #[must_use]
    pub fn from_timestamp(ts: Timestamp) -> Self {
        Self(ts.as_millis().div_euclid(MS_PER_DAY))
    }

    /// The current day.
    #[must_use]
    pub fn today() -> Self {
        Self::from_timestamp(Timestamp::now())
    }

    /// The day so many days later, or earlier if `days` is negative.
    #[must_use]
    pub fn add_days(self, days: i64) -> Self {
        Self(self.0.saturating_add(days))
    }

    /// Every day from this one to `last`, inclusive.
    pub fn days_through(self, last: Self) -> impl Iterator<Item = Self> {
        (self.0..=last.0).map(Self)
    }
}

impl fmt::Display for UsageDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ts = Timestamp::from_millis(self.0.saturating_mul(MS_PER_DAY)).to_string();
        f.write_str(ts.split('T').next().unwrap_or_default())
    }
}

impl FromStr for UsageDay {
    type Err = jiff::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let date: jiff::civil::Date = text.parse()?;
        let zoned = date.to_zoned(jiff::tz::TimeZone::UTC)?;
        Ok(Self::from_timestamp(Timestamp::from_millis(zoned.timestamp().as_millisecond())))
    }
}

impl TryFrom<String> for UsageDay {
    type Error = jiff::Error;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<UsageDay> for String {
    fn from(day: UsageDay) -> Self {
        day.to_string()
    }
}

/// The usage of one model of a provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelUsage {
    /// The provider's id.
    pub provider: String,
    /// The model's id.
    pub model: String,
    /// Tokens and cost.
    pub usage: TokenUsage,
}

/// What a session used on one day.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DailyUsage {
    /// The day.
    pub day: UsageDay,
    /// The usage by model.
    pub models: Vec<ModelUsage>,
}

impl DailyUsage {
    /// Adds the usage of a reply on `day`. A later day starts from zero.
    pub fn add_usage(&mut self, day: UsageDay, provider: &str, model: &str, usage: TokenUsage) {
        if day > self.day {
            *self = Self { day, models: Vec::new() };
        }
        match self.models.iter_mut().find(|known| known.provider == provider && known.model == model) {
            Some(known) => known.usage += usage,
            None => self.models.push(ModelUsage { provider: provider.to_owned(), model: model.to_owned(), usage }),
        }
    }

    /// The sum over all models.
    #[must_use]
    pub fn total_usage(&self) -> TokenUsage {
        self.models.iter().fold(TokenUsage::default(), |mut sum, model| {
            sum += model.usage;
            sum
        })
    }
}

/// What all sessions of a user used on one day.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserDailyUsage {
    /// The usage by session. A deleted session stays here until it is closed.
    pub sessions: BTreeMap<SessionId, Vec<ModelUsage>>,
    /// How many sessions were closed.
    pub closed_sessions: usize,
    /// The summed usage of the closed sessions.
    pub closed_usage: DailyUsage,
}

impl UserDailyUsage {
    /// How many sessions used something.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.closed_sessions + self.sessions.len()
    }

    /// The usage of all sessions.
    pub fn all_usage(&self) -> impl Iterator<Item = &ModelUsage> {
        self.sessions.values().flatten().chain(&self.closed_usage.models)
    }

    /// The usage of all sessions except one.
    pub fn usage_except(&self, session: SessionId) -> impl Iterator<Item = &ModelUsage> {
        let others = self.sessions.iter().filter(move |(other, _)| **other != session);
        others.flat_map(|(_, models)| models).chain(&self.closed_usage.models)
    }

    /// Sums up a session whose usage will not change any more.
    pub fn close_session(&mut self, session: SessionId) {
        let Some(models) = self.sessions.remove(&session) else { return };
        self.closed_sessions += 1;
        for ModelUsage { provider, model, usage } in models {
            self.closed_usage.add_usage(UsageDay::default(), &provider, &model, usage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_day_round_trips_as_date() {
        let day: UsageDay = "2026-11-23".parse().unwrap();
        assert_eq!(day.to_string(), "2026-11-23");
        assert_eq!(day.add_days(8).to_string(), "2026-12-01");
        assert_eq!(UsageDay::from_timestamp("2026-11-23T23:59:59.999Z".parse().unwrap()), day);
        assert_eq!(UsageDay::from_timestamp("2026-11-24T00:00:00.000Z".parse().unwrap()), day.add_days(1));
        assert_eq!(day.days_through(day.add_days(2)).count(), 3);
        assert!("2026-13-01".parse::<UsageDay>().is_err());
    }

    #[test]
    fn daily_usage_resets_on_a_new_day_only() {
        let usage = |tokens| TokenUsage { input_tokens: tokens, ..TokenUsage::default() };
        let mut daily = DailyUsage::default();
        let day: UsageDay = "2026-11-23".parse().unwrap();
        daily.add_usage(day, "p", "m", usage(1));
        daily.add_usage(day, "p", "n", usage(2));
        daily.add_usage(day.add_days(-1), "p", "m", usage(4));
        assert_eq!(daily.models.len(), 2);
        assert_eq!(daily.total_usage().input_tokens, 7, "a clock that steps back loses nothing");
        daily.add_usage(day.add_days(1), "p", "m", usage(8));
        assert_eq!(daily.total_usage().input_tokens, 8);
    }
}
