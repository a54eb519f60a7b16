//! What callers may do.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks at what is theirs.
    Viewer,
    /// Does everything with sessions of their own.
    User,
    /// Answers requests for approval in sessions of others, where that is asked for.
    Approver,
    /// All that a user may, and reads the metrics where they are not open.
    Admin,
}

impl Role {
    const ALL: [Self; 4] = [Self::Viewer, Self::User, Self::Approver, Self::Admin];

    fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::User => "user",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.word() == word).ok_or(())
    }
}

/// The roles of a caller.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u8);

impl Roles {
    /// All of them: of the one user there is when nobody is authenticated.
    pub const ALL: Self = Self(0b1111);
    /// `user` alone: of everybody where roles are not listed.
    pub const USER: Self = Self(1 << Role::User as u8);

    /// Those of the words that are roles; others are other applications'.
    #[must_use]
    pub fn of_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        words.into_iter().filter_map(|word| word.parse().ok()).collect()
    }

    /// Whether a role is among them.
    #[must_use]
    pub fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// Whether they look: everybody with any role.
    #[must_use]
    pub fn may_look(self) -> bool {
        self.0 != 0
    }

    /// Whether they act in sessions of their own.
    #[must_use]
    pub fn may_act(self) -> bool {
        self.has(Role::User) || self.has(Role::Admin)
    }

    /// Whether they answer requests for approval, wherever that is theirs to do.
    #[must_use]
    pub fn may_answer(self) -> bool {
        self.may_act() || self.has(Role::Approver)
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<T: IntoIterator<Item = Role>>(roles: T) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | 1 << role as u8))
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = Role::ALL.into_iter().filter(|role| self.has(*role)).map(Role::word).collect();
        f.write_str(&words.join(", "))
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_other_applications_give_nothing() {
        assert!(!Roles::of_words(["Admin", "administrators", "", "user "]).may_look());
        let both = Roles::of_words(["offline_access", "viewer", "approver"]);
        assert_eq!(both.to_string(), "viewer, approver");
        assert!(both.may_look() && both.may_answer() && !both.may_act());
        assert!(Roles::USER.may_act() && !Roles::USER.has(Role::Approver));
        // Who administers does not approve: that would be one person again.
        assert!(!Roles::of_words(["admin"]).has(Role::Approver));
    }
}
