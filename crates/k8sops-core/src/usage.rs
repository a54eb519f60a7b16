//! What users use, by day.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{SessionId, Timestamp, TokenUsage};

/// How many days of usage are kept: a year, and a month to look back at it.
pub const USAGE_DAYS: i64 = 400;

const MS_PER_DAY: i64 = 24 * 60 * 60 * 1000;

/// A day, in UTC; `2026-11-23` in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UsageDay(i64);

impl UsageDay {
    /// The day of a point in time.
    #[must_use]
    pub fn of(ts: Timestamp) -> Self {
        Self(ts.as_millis().div_euclid(MS_PER_DAY))
    }

    /// The present day.
    #[must_use]
    pub fn today() -> Self {
        Self::of(Timestamp::now())
    }

    /// So many days later, or earlier.
    #[must_use]
    pub fn plus(self, days: i64) -> Self {
        Self(self.0.saturating_add(days))
    }

    /// Each day from this one to `last`.
    pub fn through(self, last: Self) -> impl Iterator<Item = Self> {
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
        Ok(Self::of(Timestamp::from_millis(zoned.timestamp().as_millisecond())))
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

/// What one model of a provider was used for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelUsage {
    /// The provider's id.
    pub provider: String,
    /// The model's id.
    pub model: String,
    /// What it used.
    pub usage: TokenUsage,
}

/// What a session used on one day.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DailyUsage {
    /// The day.
    pub day: UsageDay,
    /// By model.
    pub models: Vec<ModelUsage>,
}

impl DailyUsage {
    /// Adds what a reply used on `day`. A new day begins with nothing.
    pub fn add(&mut self, day: UsageDay, provider: &str, model: &str, usage: TokenUsage) {
        if day > self.day {
            *self = Self { day, models: Vec::new() };
        }
        match self.models.iter_mut().find(|known| known.provider == provider && known.model == model) {
            Some(known) => known.usage += usage,
            None => self.models.push(ModelUsage { provider: provider.to_owned(), model: model.to_owned(), usage }),
        }
    }

    /// All models together.
    #[must_use]
    pub fn total(&self) -> TokenUsage {
        self.models.iter().fold(TokenUsage::default(), |mut sum, model| {
            sum += model.usage;
            sum
        })
    }
}

/// What a user's sessions used on one day.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserDay {
    /// By session. Those that are deleted stay in it, or are summed up.
    pub sessions: BTreeMap<SessionId, Vec<ModelUsage>>,
    /// Deleted sessions that were summed up, and how many they are.
    pub gone: (usize, DailyUsage),
}

impl UserDay {
    /// Sessions that used something.
    #[must_use]
    pub fn count(&self) -> usize {
        self.gone.0 + self.sessions.len()
    }

    /// What was used, but for one session.
    pub fn without(&self, session: Option<SessionId>) -> impl Iterator<Item = &ModelUsage> {
        let others = self.sessions.iter().filter(move |(other, _)| Some(**other) != session);
        others.flat_map(|(_, models)| models).chain(&self.gone.1.models)
    }

    /// Sums a session up that will not be noted again.
    pub fn sum_up(&mut self, session: SessionId) {
        let Some(models) = self.sessions.remove(&session) else { return };
        self.gone.0 += 1;
        for ModelUsage { provider, model, usage } in models {
            self.gone.1.add(UsageDay::default(), &provider, &model, usage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_written_as_a_date_and_read_back() {
        let day: UsageDay = "2026-11-23".parse().unwrap();
        assert_eq!(day.to_string(), "2026-11-23");
        assert_eq!(day.plus(8).to_string(), "2026-12-01");
        assert_eq!(UsageDay::of("2026-11-23T23:59:59.999Z".parse().unwrap()), day);
        assert_eq!(UsageDay::of("2026-11-24T00:00:00.000Z".parse().unwrap()), day.plus(1));
        assert_eq!(day.through(day.plus(2)).count(), 3);
        assert!("2026-13-01".parse::<UsageDay>().is_err());
    }

    #[test]
    fn a_new_day_begins_with_nothing_and_a_clock_that_steps_back_loses_nothing() {
        let usage = |tokens| TokenUsage { input_tokens: tokens, ..TokenUsage::default() };
        let mut spent = DailyUsage::default();
        let day: UsageDay = "2026-11-23".parse().unwrap();
        spent.add(day, "p", "m", usage(1));
        spent.add(day, "p", "n", usage(2));
        spent.add(day.plus(-1), "p", "m", usage(4));
        assert_eq!((spent.models.len(), spent.total().input_tokens), (2, 7));
        spent.add(day.plus(1), "p", "m", usage(8));
        assert_eq!(spent.total().input_tokens, 8);
    }
}
