//! The pages of the guestbook, in the taste of their time.

use http::StatusCode;

use super::{Entry, Visitor};
use crate::demo::site::{Answer, escape, html};

pub(super) fn guestbook<'a>(visitor: &Visitor<'_>, entries: impl Iterator<Item = &'a Entry>) -> Answer {
    let entries: String = entries.map(entry).collect();
    let content = format!(
        "<form method=\"post\" action=\"/sign\">\n\
         <label for=\"message\">Say something nice:</label>\n\
         <input type=\"text\" id=\"message\" name=\"message\" maxlength=\"500\" required>\n\
         <button type=\"submit\">Sign the guestbook</button>\n</form>\n{entries}"
    );
    page(StatusCode::OK, visitor, "The Guestbook", &content)
}

pub(super) fn archive(visitor: &Visitor<'_>, year: &str) -> Answer {
    let year = escape(year);
    let content = format!("<p>Nobody signed the guestbook in <b>{year}</b>, or the disk with it is lost.</p>\n");
    page(StatusCode::OK, visitor, "The Archive", &content)
}

pub(super) fn admin(visitor: &Visitor<'_>, entries: usize) -> Answer {
    let content = format!("<p>For the admin: the guestbook has {entries} entries, and the disk is not full yet.</p>\n");
    page(StatusCode::OK, visitor, "The Engine Room", &content)
}

pub(super) fn live(visitor: &Visitor<'_>) -> Answer {
    page(StatusCode::OK, visitor, "The Coffee Pot", LIVE)
}

pub(super) fn public(visitor: &Visitor<'_>) -> Answer {
    let content = "<p>This page is public: everybody may read it, and nobody has to say who they are.</p>\n";
    page(StatusCode::OK, visitor, "For Everybody", content)
}

pub(super) fn nothing(visitor: &Visitor<'_>) -> Answer {
    page(
        StatusCode::NOT_FOUND,
        visitor,
        "Lost?",
        "<p>This page has moved, or never was.</p>\n",
    )
}

fn entry(entry: &Entry) -> String {
    let (name, message) = (escape(&entry.name), escape(&entry.message));
    format!("<blockquote>{message}<cite>{name}</cite></blockquote>\n")
}

fn page(status: StatusCode, visitor: &Visitor<'_>, title: &str, content: &str) -> Answer {
    let greeting = greeting(visitor);
    html(
        status,
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             </head>\n<body>\n<main>\n<h1>{title}</h1>\n{NAVIGATION}<div class=\"visitor\">\n{greeting}</div>\n\
             {content}</main>\n<footer>Best viewed with any browser. No login was harmed.</footer>\n</body>\n</html>\n"
        ),
    )
}

/// What the headers said; signing out is the gateway's.
fn greeting(visitor: &Visitor<'_>) -> String {
    let Some(user) = visitor.user else {
        return "<p>Hello, whoever you are.</p>\n".to_owned();
    };
    let details = [("E-mail", visitor.email), ("Groups", visitor.groups)];
    let details = details
        .iter()
        .filter_map(|(name, value)| Some(format!("<dt>{name}<dd>{}", shortened((*value)?))));
    format!(
        "<p>Hello <strong>{}</strong></p>\n<dl>{}</dl>\n\
         <form method=\"post\" action=\"/oauth2/sign_out\"><button type=\"submit\">Sign out</button>\n\
         <button type=\"submit\" formaction=\"/oauth2/sign_out?everywhere\">Sign out everywhere</button></form>\n",
        escape(user),
        details.collect::<String>()
    )
}

/// Somebody may be in hundreds of groups.
fn shortened(value: &str) -> String {
    let start: String = value.chars().take(100).collect();
    let dots = if start.len() < value.len() { "…" } else { "" };
    format!("{}{dots}", escape(&start))
}

const NAVIGATION: &str = "\
<nav><a href=\"/\">Guestbook</a> | <a href=\"/entries/archive?year=1999\">Archive of 1999</a> | \
<a href=\"/live\">Coffee pot</a> | <a href=\"/admin\">Engine room</a> | <a href=\"/public/\">For everybody</a></nav>
";

/// The coffee pot, and the script that shows how its two connections are.
const LIVE: &str = include_str!("live.html");

const STYLE: &str = "\
:root { color-scheme: light dark; --ink: #33270f; --soft: #6a5527; --paper: #fffdf5; --panel: #f3ead0; --ground: #f6ecd2;
  --stripe: #e9dab366; --edge: #c8a75b; --title: #7a1f2b; --link: #1b3fa0; --key: #ecdcae; --bevel: #e0cf9f;
  --good: #2c6e2f; --bad: #a3182b; --unsure: #7d5a00 }
@media (prefers-color-scheme: dark) { :root { --ink: #f0e4c8; --soft: #c4ad7d; --paper: #2a2218; --panel: #382e20;
  --ground: #1b150d; --stripe: #2a211566; --edge: #86703c; --title: #f0949e; --link: #9dbcff; --key: #4a3d27; --bevel: #6b5a38;
  --good: #8fd392; --bad: #ff9aa5; --unsure: #f0c75e } }
body { font: 17px/1.5 Georgia, serif; margin: 0; padding: 2rem 1rem; color: var(--ink);
  background: var(--ground) repeating-linear-gradient(45deg, #0000 0 14px, var(--stripe) 14px 28px) }
main { max-width: 40rem; margin: 0 auto; padding: 1rem 2rem 2rem; background: var(--paper); border: 6px ridge var(--edge) }
h1 { text-align: center; color: var(--title); font-variant: small-caps; font-size: 2.4rem; line-height: 1.2; margin: .5rem 0 }
h2 { font-size: 1.1rem; margin: 0 }
nav { text-align: center; border-block: 3px double var(--edge); padding: .4rem; margin-bottom: 1rem }
nav a { white-space: nowrap }
a { color: var(--link) }
.visitor { background: var(--panel); padding: .5rem 1rem; margin-bottom: 1.5rem }
.visitor p { margin: .2rem 0 }
.visitor form { display: flex; flex-wrap: wrap; gap: .4rem; margin: .4rem 0 }
dl { margin: .2rem 0; font-size: .9rem; overflow-wrap: anywhere }
dt { float: left; clear: left; width: 4.5rem; color: var(--soft) }
input { font: inherit; color: inherit; background: var(--paper); border: 2px inset var(--bevel); width: 100%;
  box-sizing: border-box; padding: .2rem .4rem; margin: .3rem 0 }
button { font: inherit; color: inherit; border: 3px outset var(--bevel); background: var(--key); padding: .1rem .8rem }
blockquote { margin: 1.2rem 0; padding: .3rem 1rem; border-left: 4px solid var(--edge); overflow-wrap: anywhere }
cite { display: block; text-align: right; color: var(--soft) }
cite::before { content: \"— \" }
.wire { margin: 1rem 0; padding: .6rem 1rem; border: 3px double var(--edge) }
.wire p { margin: .2rem 0 }
.state { color: var(--unsure); font-weight: bold }
.state::before { content: \"● \" }
.state.connected { color: var(--good) }
.state.ended { color: var(--bad) }
.message { color: var(--soft) }
footer { text-align: center; margin: 1rem; color: var(--soft); font-size: .9rem }
@media (max-width: 32rem) { body { padding: .5rem } main { padding: .5rem 1rem 1rem } h1 { font-size: 2rem } }
";
