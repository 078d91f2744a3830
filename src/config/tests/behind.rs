//! What stands behind the gateway, and how it is reached.

use super::{
    bad::{expect, in_route},
    *,
};

const BEARER: &str = "[provider.corp.bearer]\naudiences = [\"a\"]\n";

#[test]
fn an_authorization_is_the_applications_own_only_where_nobody_else_reads_or_writes_it() {
    let own = "authorization = §\"application\"";
    let by_token = |auth: &str| format!("{PROVIDER}{BEARER}{ROUTE}{auth}{own}\n");
    for auth in ["", "auth = [\"bearer\"]\n", "auth = [\"session\", \"bearer\"]\n"] {
        expect(
            &by_token(auth),
            "where access tokens let people in",
            "auth = [\"session\"]",
        );
    }
    let sent = "[route.wiki.identity]\naccess_token = \"authorization\"";
    in_route(
        &format!("{own}\n{sent}"),
        "`access_token` writes",
        "leave `access_token` out",
    );
    let basic = "[route.wiki.identity]\nbasic = { username = \"a\", password_env = \"SECRET\" }";
    in_route(&format!("{own}\n{basic}"), "`basic` writes", "leave `basic` out");
    for auth in ["auth = [\"session\"]\n", "auth = [\"public\"]\n"] {
        assert!(read(&by_token(auth).replace('§', "")).is_ok(), "{auth}");
    }
}
