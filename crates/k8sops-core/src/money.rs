//! Amounts of money.

use std::{fmt, iter::Sum, ops::AddAssign};

use serde::{Deserialize, Serialize};

/// Nano-dollars of a dollar.
const NANO: f64 = 1e9;

/// An amount in US dollars, exact to a billionth: a single cached token costs about ten of those. In JSON it is a number of
/// dollars, which a double represents exactly up to millions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct UsdAmount(u64);

impl UsdAmount {
    /// Zero dollars.
    pub const ZERO: Self = Self(0);

    /// An amount of dollars, rounded to a billionth. Negative numbers and NaN become zero.
    #[must_use]
    pub fn from_dollars(dollars: f64) -> Self {
        // A cast from a float saturates, and turns NaN into zero.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates, as said above")]
        Self((dollars * NANO).round() as u64)
    }

    /// The amount in dollars.
    #[must_use]
    pub fn as_dollars(self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "exact up to nine million dollars")]
        let nano = self.0 as f64;
        nano / NANO
    }

    /// The cost of `count` units at this price for a million units.
    #[must_use]
    pub fn cost_per_million(self, count: u64) -> Self {
        let nano = u128::from(self.0) * u128::from(count) / 1_000_000;
        Self(u64::try_from(nano).unwrap_or(u64::MAX))
    }

    /// The difference to `other`; zero if `other` is more.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Whether the amount is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl From<f64> for UsdAmount {
    fn from(dollars: f64) -> Self {
        Self::from_dollars(dollars)
    }
}

impl From<UsdAmount> for f64 {
    fn from(amount: UsdAmount) -> Self {
        amount.as_dollars()
    }
}

impl AddAssign for UsdAmount {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

impl Sum for UsdAmount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, |mut sum, amount| {
            sum += amount;
            sum
        })
    }
}

impl fmt::Display for UsdAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4} USD", self.as_dollars())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_and_round_trip_through_json() {
        let price = UsdAmount::from_dollars(0.02);
        assert_eq!(price.cost_per_million(1), UsdAmount(20));
        assert_eq!(UsdAmount::from_dollars(15.0).cost_per_million(1_234_567), UsdAmount(18_518_505_000));
        let written = serde_json::to_string(&UsdAmount(18_518_505_001)).unwrap();
        assert_eq!(written, "18.518505001");
        assert_eq!(serde_json::from_str::<UsdAmount>(&written).unwrap(), UsdAmount(18_518_505_001));
        for not_an_amount in [-1.0, f64::NAN] {
            assert_eq!(UsdAmount::from_dollars(not_an_amount), UsdAmount::ZERO);
        }
        assert_eq!((0..1000).map(|_| UsdAmount(3)).sum::<UsdAmount>(), UsdAmount(3000));
    }
}
