//! Roles, and what each allows.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A role of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserRole {
    /// May read their own sessions.
    Viewer,
    /// May read and change their own sessions.
    User,
    /// May approve tool calls in sessions of other users, if `TOOL_APPROVAL_BY=approver`.
    Approver,
    /// May do all that a user may, and read the metrics if they are not public.
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

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.name() == name).ok_or(())
    }
}

/// The roles of a caller, as a bit set.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct RoleSet(u8);

impl RoleSet {
    /// All roles: those of every caller while authentication is off.
    pub const ALL: Self = Self(0b1111);
    /// Only `user`: the roles of every caller if roles are not configured.
    pub const USER: Self = Self(1 << UserRole::User as u8);

    /// Parses role names. Unknown names are ignored: they belong to other applications.
    #[must_use]
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        names.into_iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// Whether the set contains a role.
    #[must_use]
    pub fn contains(self, role: UserRole) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// The roles in the set.
    pub fn iter(self) -> impl Iterator<Item = UserRole> {
        UserRole::ALL.into_iter().filter(move |role| self.contains(*role))
    }

    /// Whether the caller may read their own sessions: true for any role.
    #[must_use]
    pub fn can_read(self) -> bool {
        self.0 != 0
    }

    /// Whether the caller may change their own sessions.
    #[must_use]
    pub fn can_write(self) -> bool {
        self.contains(UserRole::User) || self.contains(UserRole::Admin)
    }

    /// Whether the caller may answer approval requests.
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
        let names: Vec<_> = self.iter().map(UserRole::name).collect();
        f.write_str(&names.join(", "))
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
    fn unknown_role_names_are_ignored() {
        assert!(!RoleSet::from_names(["Admin", "administrators", "", "user "]).can_read());
        let both = RoleSet::from_names(["offline_access", "viewer", "approver"]);
        assert_eq!(both.to_string(), "viewer, approver");
        assert!(both.can_read() && both.can_approve() && !both.can_write());
        assert!(RoleSet::USER.can_write() && !RoleSet::USER.contains(UserRole::Approver));
        // An admin is not an approver: otherwise one person could do both.
        assert!(!RoleSet::from_names(["admin"]).contains(UserRole::Approver));
    }
}
