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
         <form method=\"post\" action=\"/oauth2/sign_out\"><button type=\"submit\">Sign out</button></form>\n",
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
<a href=\"/admin\">Engine room</a> | <a href=\"/public/\">For everybody</a></nav>
";

const STYLE: &str = "\
body { font: 17px/1.5 Georgia, serif; margin: 0; padding: 2rem 1rem; color: #33270f;
  background: #f6ecd2 repeating-linear-gradient(45deg, #0000 0 14px, #e9dab366 14px 28px) }
main { max-width: 40rem; margin: 0 auto; padding: 1rem 2rem 2rem; background: #fffdf5; border: 6px ridge #c8a75b }
h1 { text-align: center; color: #7a1f2b; font-variant: small-caps; font-size: 2.4rem; margin: .5rem 0 }
nav { text-align: center; border-block: 3px double #c8a75b; padding: .4rem; margin-bottom: 1rem }
a { color: #1b3fa0 }
.visitor { background: #f3ead0; padding: .5rem 1rem; margin-bottom: 1.5rem }
.visitor p { margin: .2rem 0 }
dl { margin: .2rem 0; font-size: .9rem; overflow-wrap: anywhere }
dt { float: left; clear: left; width: 4.5rem; color: #6a5527 }
input { font: inherit; width: 100%; box-sizing: border-box; margin: .3rem 0 }
button { font: inherit; border: 3px outset #e0cf9f; background: #ecdcae; padding: .1rem .8rem }
blockquote { margin: 1.2rem 0; padding: .3rem 1rem; border-left: 4px solid #c8a75b; overflow-wrap: anywhere }
cite { display: block; text-align: right; color: #6a5527 }
cite::before { content: \"— \" }
footer { text-align: center; margin: 1rem; color: #6a5527; font-size: .9rem }
";
