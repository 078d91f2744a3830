//! What people see of the gateway: server-rendered, nothing loaded from anywhere.

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, Response, StatusCode, header};
use minijinja::{Environment, context};

use super::{
    Visit,
    respond::{Action, Notice},
};
use crate::upstream::body::Body;

const STYLE: &str = include_str!("pages/style.css");

/// The providers to choose from: display name, where choosing it leads, and whether it was chosen last.
#[derive(Debug)]
pub(super) struct Chooser {
    pub(super) choices: Vec<(String, String, bool)>,
}

/// Which sessions of a person a sign-out ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// The one of this browser.
    Here,
    /// All of them.
    Everywhere,
}

#[derive(Debug)]
pub(super) struct Pages {
    templates: Environment<'static>,
    policy: HeaderValue,
}

impl Pages {
    /// Forms may lead to the origins of these issuers: signing out ends there.
    pub(super) fn new<'a>(issuers: impl Iterator<Item = &'a str>) -> Result<Self, minijinja::Error> {
        let mut templates = Environment::new();
        templates.add_template("base.html", include_str!("pages/base.html"))?;
        templates.add_template("notice.html", include_str!("pages/notice.html"))?;
        templates.add_template("chooser.html", include_str!("pages/chooser.html"))?;
        templates.add_template("sign_out.html", include_str!("pages/sign_out.html"))?;
        templates.add_template("continue.html", include_str!("pages/continue.html"))?;
        templates.add_global("style", minijinja::Value::from_safe_string(STYLE.to_owned()));
        Ok(Self {
            templates,
            policy: content_security_policy(issuers),
        })
    }

    pub(super) fn notice(&self, notice: &Notice, auth_prefix: &str, visit: &Visit<'_>) -> Response<Body> {
        let start = visit.start_again_query();
        let action = notice.action.map(|action| match action {
            Action::Retry => "retry",
            Action::StartAgain => "start_again",
            Action::OtherAccount => "other_account",
        });
        self.page(
            "notice.html",
            context! {
                title => notice.title,
                status => notice.status.as_u16(),
                explanation => &notice.explanation,
                person => visit.person(),
                action, auth_prefix, start,
                has_choice => visit.has_choice,
                reference => visit.id(),
            },
        )
    }

    pub(super) fn chooser(&self, chooser: &Chooser, reference: &str) -> Response<Body> {
        let title = "How do you want to log in?";
        self.page(
            "chooser.html",
            context! { title, choices => &chooser.choices, reference },
        )
    }

    pub(super) fn confirm_sign_out(&self, extent: Extent, path: &str, reference: &str) -> Response<Body> {
        let (title, explanation) = match extent {
            Extent::Here => (
                "Do you want to sign out?",
                "Something asked your browser to sign you out here.",
            ),
            Extent::Everywhere => (
                "Do you want to sign out everywhere?",
                "This ends your sessions here, and those in all other browsers.",
            ),
        };
        self.page("sign_out.html", context! { title, explanation, path, reference })
    }

    pub(super) fn signed_out(&self, extent: Extent, reference: &str) -> Response<Body> {
        let (title, explanation) = match extent {
            Extent::Here => ("Signed out", "You are signed out. It is safe to close this window."),
            Extent::Everywhere => (
                "Signed out everywhere",
                "You are signed out, here and in all other browsers. It is safe to close this window.",
            ),
        };
        self.page(
            "notice.html",
            context! { title, explanation, action => "home", reference },
        )
    }

    /// Goes on by itself: a navigation that this site began, so that strict cookies are sent with it, and that no form
    /// began, so that it may lead anywhere.
    pub(super) fn go_on(&self, title: &str, location: &str, reference: &str) -> Response<Body> {
        self.page("continue.html", context! { title, location, reference })
    }

    fn page(&self, template: &str, values: minijinja::Value) -> Response<Body> {
        let html = self
            .templates
            .get_template(template)
            .and_then(|template| template.render(values));
        let html = html.unwrap_or_else(|error| {
            tracing::error!(%error, template, "a page could not be rendered");
            String::new()
        });
        let mut response = Response::new(Body::from(html));
        *response.status_mut() = StatusCode::OK;
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        response
    }
}

/// Nothing but the one style sheet, by its hash (CSP Level 3 §6.1).
fn content_security_policy<'a>(issuers: impl Iterator<Item = &'a str>) -> HeaderValue {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    let origins: Vec<_> = issuers
        .filter_map(|issuer| url::Url::parse(issuer).ok())
        .map(|issuer| issuer.origin().ascii_serialization())
        .collect();
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self' {}; base-uri 'none'; frame-ancestors 'none'",
        origins.join(" ")
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}
