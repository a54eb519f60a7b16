//! Points in time, in one form: RFC 3339, UTC, always with three digits of milliseconds.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time with millisecond precision.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, utoipa::ToSchema)]
#[schema(value_type = String, format = "date-time")]
pub struct Timestamp(i64);

impl Timestamp {
    /// The current time.
    #[must_use]
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond())
    }

    /// The point in time at a number of milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// The point in time `duration` later.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The time since `earlier`; zero if `earlier` is later than this (clocks can step back).
    #[must_use]
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Returns whether a name is that of a time zone in the IANA database, like `Europe/Berlin`.
#[must_use]
pub fn is_time_zone(name: &str) -> bool {
    jiff::tz::TimeZone::get(name).is_ok()
}

impl Timestamp {
    /// The weekday and the time to the minute, in UTC and in a time zone: `Monday 2026-11-30 09:05 UTC (2026-11-30 10:05 in
    /// Europe/Berlin)`. An unknown zone is left out.
    #[must_use]
    pub fn describe_minute(self, time_zone: Option<&str>) -> String {
        let ts = jiff::Timestamp::from_millisecond(self.0).unwrap_or_default();
        let utc = ts.to_zoned(jiff::tz::TimeZone::UTC).strftime("%A %Y-%m-%d %H:%M UTC").to_string();
        match time_zone.map(|name| (name, ts.in_tz(name))) {
            Some((name, Ok(local))) => format!("{utc} ({} in {name})", local.strftime("%Y-%m-%d %H:%M")),
            _ => utc,
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ts = jiff::Timestamp::from_millisecond(self.0).unwrap_or_default();
        write!(f, "{ts:.3}")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse::<jiff::Timestamp>().map(|ts| Self(ts.as_millisecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamp_has_three_digits_of_milliseconds() {
        assert_eq!(Timestamp::from_millis(1_700_000_000_000).to_string(), "2023-11-14T22:13:20.000Z");
        assert_eq!(Timestamp::from_millis(1_700_000_000_007).to_string(), "2023-11-14T22:13:20.007Z");
    }

    #[test]
    fn minute_is_in_utc_and_in_the_time_zone() {
        let time = Timestamp::from_millis(1_700_000_000_000);
        assert_eq!(time.describe_minute(None), "Tuesday 2023-11-14 22:13 UTC");
        assert_eq!(
            time.describe_minute(Some("Asia/Kolkata")),
            "Tuesday 2023-11-14 22:13 UTC (2023-11-15 03:43 in Asia/Kolkata)"
        );
        assert_eq!(time.describe_minute(Some("Mars/Olympus")), "Tuesday 2023-11-14 22:13 UTC");
        assert!(is_time_zone("America/New_York") && !is_time_zone("Mars/Olympus") && !is_time_zone(""));
    }

    #[test]
    fn timestamp_round_trips_through_json() {
        let now = Timestamp::now();
        let json = serde_json::to_string(&now).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), now);
    }
}
