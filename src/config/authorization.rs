//! `authorization` in `[route.NAME]`: an `Authorization` header that is the application's own.

use super::{load::Load, read::Field};
use crate::{
    policy::Access,
    upstream::{
        AuthorizationOwner,
        vouch::{TokenHeader, Vouching},
    },
};

/// Refuses what would read the header, or write another one in its place.
pub(super) fn owner(
    field: &Field<AuthorizationOwner>,
    access: Option<&Access>,
    vouching: &Vouching,
    load: &mut Load<'_>,
) -> AuthorizationOwner {
    let (Some(AuthorizationOwner::Application), Some(at)) = (field.value(), field.at()) else {
        return AuthorizationOwner::Gateway;
    };
    if let Some(Access::Protected(admission)) = access
        && admission.bearer
    {
        let message = "the `Authorization` header cannot be the application's where access tokens let people in";
        let instead = "write auth = [\"session\"], or leave `authorization` out";
        load.findings.problem(at, message, instead);
    }
    let written = match (vouching.access_token, &vouching.basic) {
        (Some(TokenHeader::Authorization), _) => Some("access_token"),
        (_, Some(_)) => Some("basic"),
        (Some(TokenHeader::XForwardedAccessToken) | None, None) => None,
    };
    if let Some(key) = written {
        let message = format!("`{key}` writes the `Authorization` header, which cannot be the client's as well");
        let instead = format!("leave `{key}` out, or leave `authorization` out");
        load.findings.problem(at, message, instead);
    }
    AuthorizationOwner::Application
}
