//! The authenticated caller as a typed extractor. A handler has no other access to a user id, and its parameter type states
//! which roles it requires.

use std::{future::Ready, marker::PhantomData};

use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev::Payload};
use k8sops_core::UserId;

use super::{problem::ProblemDetails, problem_code::ProblemCode};
use crate::auth::{CallerIdentity, RoleSet, UserRole};

/// What a handler requires of its caller.
pub(super) trait AccessRequirement {
    /// The roles that fulfill the requirement, for the error message.
    const ROLES: &'static str;

    fn is_met_by(roles: RoleSet) -> bool;
}

/// Reading one's own data.
pub(super) struct CanRead;

impl AccessRequirement for CanRead {
    const ROLES: &'static str = "viewer, user, approver or admin";

    fn is_met_by(roles: RoleSet) -> bool {
        roles.can_read()
    }
}

/// Changing one's own data.
pub(super) struct CanWrite;

impl AccessRequirement for CanWrite {
    const ROLES: &'static str = "user or admin";

    fn is_met_by(roles: RoleSet) -> bool {
        roles.can_write()
    }
}

/// Answering approval requests.
pub(super) struct CanApprove;

impl AccessRequirement for CanApprove {
    const ROLES: &'static str = "user, approver or admin";

    fn is_met_by(roles: RoleSet) -> bool {
        roles.can_approve()
    }
}

/// Reading data of the whole service.
pub(super) struct CanAdminister;

impl AccessRequirement for CanAdminister {
    const ROLES: &'static str = "admin";

    fn is_met_by(roles: RoleSet) -> bool {
        roles.contains(UserRole::Admin)
    }
}

/// The user who makes a request and has the roles that the handler requires.
pub(super) struct Caller<R = CanRead> {
    /// The user whose sessions the caller can access.
    pub(super) user: UserId,
    pub(super) identity: CallerIdentity,
    requirement: PhantomData<R>,
}

impl<R: AccessRequirement> Caller<R> {
    /// Creates a caller, or fails with `role_required`.
    pub(super) fn new(identity: CallerIdentity) -> Result<Self, ProblemDetails> {
        if !R::is_met_by(identity.roles) {
            return Err(role_required(R::ROLES, identity.roles));
        }
        Ok(Self { user: identity.user.clone(), identity, requirement: PhantomData })
    }
}

impl<R: AccessRequirement> FromRequest for Caller<R> {
    type Error = ProblemDetails;
    type Future = Ready<Result<Self, ProblemDetails>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let identity = request.extensions().get::<CallerIdentity>().cloned();
        let unauthenticated =
            || ProblemDetails::unauthenticated("the request is not authenticated", "Bearer realm=\"k8sops\"".into());
        std::future::ready(identity.ok_or_else(unauthenticated).and_then(Self::new))
    }
}

fn role_required(required: &str, roles: RoleSet) -> ProblemDetails {
    let actual = if roles.can_read() { format!("you have: {roles}") } else { "you have no role".to_owned() };
    ProblemDetails::new(ProblemCode::RoleRequired, format!("this operation requires the role {required}; {actual}"))
}
