//! What callers may do.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum UserRole {
    /// Looks at what is theirs.
    Viewer,
    /// Does everything with sessions of their own.
    User,
    /// Answers requests for approval in sessions of others, where that is asked for.
    Approver,
    /// All that a user may, and reads the metrics where they are not open.
    Admin,
}

impl UserRole {
    const ALL: [Self; 4] = [Self::Viewer, Self::User, Self::Approver, Self::Admin];

    fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::User => "user",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for UserRole {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.name() == word).ok_or(())
    }
}

/// The roles of a caller.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct RoleSet(u8);

impl RoleSet {
    /// All of them: of the one user there is when nobody is authenticated.
    pub const ALL: Self = Self(0b1111);
    /// `user` alone: of everybody where roles are not listed.
    pub const USER: Self = Self(1 << UserRole::User as u8);

    /// Those of the words that are roles; others are other applications'.
    #[must_use]
    pub fn from_names<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        words.into_iter().filter_map(|word| word.parse().ok()).collect()
    }

    /// Whether a role is among them.
    #[must_use]
    pub fn contains(self, role: UserRole) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// Whether they look: everybody with any role.
    #[must_use]
    pub fn can_read(self) -> bool {
        self.0 != 0
    }

    /// Whether they act in sessions of their own.
    #[must_use]
    pub fn can_write(self) -> bool {
        self.contains(UserRole::User) || self.contains(UserRole::Admin)
    }

    /// Whether they answer requests for approval, wherever that is theirs to do.
    #[must_use]
    pub fn can_approve(self) -> bool {
        self.can_write() || self.contains(UserRole::Approver)
    }
}

impl FromIterator<UserRole> for RoleSet {
    fn from_iter<T: IntoIterator<Item = UserRole>>(roles: T) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | 1 << role as u8))
    }
}

impl fmt::Display for RoleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = UserRole::ALL.into_iter().filter(|role| self.contains(*role)).map(UserRole::name).collect();
        f.write_str(&words.join(", "))
    }
}

impl fmt::Debug for RoleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_other_applications_give_nothing() {
        assert!(!RoleSet::from_names(["Admin", "administrators", "", "user "]).can_read());
        let both = RoleSet::from_names(["offline_access", "viewer", "approver"]);
        assert_eq!(both.to_string(), "viewer, approver");
        assert!(both.can_read() && both.can_approve() && !both.can_write());
        assert!(RoleSet::USER.can_write() && !RoleSet::USER.contains(UserRole::Approver));
        // Who administers does not approve: that would be one person again.
        assert!(!RoleSet::from_names(["admin"]).contains(UserRole::Approver));
    }
}
