//! Pages that people see here.

use http::StatusCode;

use super::state::Factors;
use crate::demo::site::{Answer, Parameters, escape, html};

/// Asks for name and password, and carries the authorization request along.
pub(super) fn login(
    request: &Parameters,
    client: &str,
    factors: Factors,
    status: StatusCode,
    complaint: &str,
) -> Answer {
    let carried: String = request.0.iter().map(|(name, value)| hidden(name, value)).collect();
    let complaint = match complaint {
        "" => String::new(),
        complaint => format!("<p class=\"wrong\">{}</p>\n", escape(complaint)),
    };
    let code = match factors {
        Factors::Password => "",
        Factors::PasswordAndCode => CODE,
    };
    let form = format!(
        "<p>to continue to <strong>{}</strong></p>\n{complaint}<form method=\"post\" action=\"/login\">\n{carried}\
         <label>Name <input type=\"text\" name=\"username\" autocomplete=\"username\" required autofocus></label>\n\
         <label>Password <input type=\"password\" name=\"password\" autocomplete=\"current-password\" required></label>\n\
         {code}<button type=\"submit\">Log in</button>\n</form>\n",
        escape(client)
    );
    page(status, "Log in", &form)
}

const CODE: &str = "<label>One-time code (here always 123456) <input type=\"text\" name=\"code\" \
                    inputmode=\"numeric\" autocomplete=\"one-time-code\" required></label>\n";

pub(super) fn notice(status: StatusCode, title: &str, text: &str) -> Answer {
    page(status, title, &format!("<p>{}</p>\n", escape(text)))
}

/// What there is to see and to do for whoever is logged in here.
pub(super) fn welcome(issuer: &str, username: Option<&str>) -> Answer {
    let issuer = escape(issuer);
    let there = format!("<p>The authorization server {issuer} logs people in for applications.</p>\n");
    let content = match username {
        None => format!("{there}<p>Nobody is logged in here with this browser.</p>\n"),
        Some(username) => format!(
            "{there}<p>You are logged in here as <strong>{}</strong>.</p>\n<form method=\"post\" action=\"/logout\">\n\
             <button type=\"submit\">End this login</button>\n</form>\n\
             <p class=\"hint\">Every application that this login led to is told at once, by back-channel logout.</p>\n",
            escape(username)
        ),
    };
    page(StatusCode::OK, "An authorization server", &content)
}

fn hidden(name: &str, value: &str) -> String {
    format!(
        "<input type=\"hidden\" name=\"{}\" value=\"{}\">\n",
        escape(name),
        escape(value)
    )
}

fn page(status: StatusCode, title: &str, content: &str) -> Answer {
    let title = escape(title);
    html(
        status,
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             </head>\n<body>\n<main>\n<h1>{title}</h1>\n{content}</main>\n\
             <footer>This server is for development.</footer>\n</body>\n</html>\n"
        ),
    )
}

const STYLE: &str = "\
:root { color-scheme: light dark; --ink: #1c2733; --soft: #51606f; --paper: #fff; --ground: #eef1f5; --line: #8593a3;
  --accent: #1d5fa8; --on-accent: #fff; --bad: #a3182b }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf1; --soft: #a3b0bd; --paper: #1d2530; --ground: #12171d;
  --line: #5b6977; --accent: #8bbcf2; --on-accent: #10202f; --bad: #ff9aa5 } }
body { font: 16px/1.5 system-ui, sans-serif; background: var(--ground); color: var(--ink); margin: 0; padding: 4rem 1rem }
main { max-width: 22rem; margin: 0 auto; padding: 1.5rem 2rem 2rem; background: var(--paper); border-radius: 10px;
  box-shadow: 0 2px 14px #0002; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin: 0 0 .5rem }
label { display: block; margin: 1rem 0 }
input { display: block; box-sizing: border-box; width: 100%; font: inherit; color: inherit; background: var(--paper);
  padding: .5rem; border: 1px solid var(--line); border-radius: 5px }
button { font: inherit; width: 100%; padding: .6rem; color: var(--on-accent); background: var(--accent); border: 0;
  border-radius: 5px }
.wrong { color: var(--bad) }
.hint, footer { color: var(--soft) }
.hint { font-size: .9rem; margin-bottom: 0 }
footer { text-align: center; margin: 1.5rem }
@media (max-width: 32rem) { body { padding: 1rem } main { padding: 1rem 1.25rem 1.5rem } }
";
