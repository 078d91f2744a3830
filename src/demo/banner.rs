//! What the demo prints when it is ready.

use std::fmt::Write as _;

use super::{ADMIN, ALICE, Demo, MEMBER_OF_MANY};

impl Demo {
    /// Where to go, who can log in, and lines to paste, each under a comment that ends with the status to expect.
    pub fn banner(&self) -> String {
        let mut text = format!("\nOpen  http://{}/\n\n", self.gateway);
        let users = [
            (ALICE, "somebody ordinary"),
            (ADMIN, "may enter /admin too"),
            (MEMBER_OF_MANY, "is in 300 groups"),
        ];
        text.push_str("Log in as\n");
        for (name, about) in users {
            let _ = writeln!(text, "  {name:<6} password {name:<6} {about}");
        }
        let _ = write!(
            text,
            "\nWatch http://{}/live lose its streams when you end your login at {}/\n",
            self.gateway,
            self.authorization_server.issuer()
        );
        text.push_str("\nOr paste, within the hour\n");
        for (what, command) in self.commands() {
            let _ = writeln!(text, "\n# {what}\n{command}");
        }
        text.push_str("\nNothing here is for production. Stop it with Ctrl-C.\n");
        text
    }

    fn commands(&self) -> [(&'static str, String); 6] {
        let server = &self.authorization_server;
        let audience = format!("http://{}", self.gateway);
        let api = format!("curl -i http://{}/api/whoami", self.gateway);
        let with = |token: String| format!("{api} -H 'Authorization: Bearer {token}'");
        let right = "openid entries.read";
        [
            (
                "the public page: 200",
                format!("curl -i http://{}/public/", self.gateway),
            ),
            ("no token: 401", api.clone()),
            ("a JWT: 200", with(server.issue_jwt(ALICE, &audience, right))),
            (
                "an opaque token: 200",
                with(server.issue_opaque(ALICE, &audience, right)),
            ),
            (
                "a token without the scope entries.read: 403",
                with(server.issue_jwt(ALICE, &audience, "openid")),
            ),
            (
                "a token of your own, for a program: 200",
                format!(
                    "curl -i -u script:script -d grant_type=client_credentials -d scope=entries.read {}/token",
                    server.issuer()
                ),
            ),
        ]
    }
}
