//! The reserved paths below `auth_prefix`: answered here, never sent upstream.

use std::net::Ipv4Addr;

use http::{Method, Request, Response, header};

use super::{
    Error, Gateway, RequestFacts, Visit,
    login::{Attempt, CHOICE, TRIES, Wish, chosen_before},
    pages::Chooser,
    respond,
};
use crate::{
    identity::{Peer, ProviderId, Strength},
    oauth::authorization::Account,
    policy::{Access, Initiator, LoginDemand, Lookup, Origin},
    time::Timestamp,
    upstream::{
        body::Body,
        headers::{Credential, Scrubbed},
        lifeline::Asked,
        target::Target,
    },
};

/// Something that the gateway does itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// Begins a login: `?rd=/way/back`, and `&provider=…` where there are several.
    Start,
    /// The redirect URI.
    Callback,
    /// The page that asks which provider.
    SignIn,
    /// Ends the session here, and begins a login as somebody else: `?rd=/way/back`.
    OtherAccount,
    /// Ends the session, here and at the provider; `?everywhere`: all of this person here.
    SignOut,
    /// The provider tells that sessions are over.
    BackchannelLogout,
    /// The provider lets a browser tell that its session is over.
    FrontchannelLogout,
    /// Who is logged in, for an application that runs in the browser.
    Userinfo,
    /// The keys that assertions are checked with.
    Jwks,
}

impl Endpoint {
    fn named(name: &str) -> Option<Self> {
        match name {
            "start" => Some(Self::Start),
            "callback" => Some(Self::Callback),
            "sign_in" => Some(Self::SignIn),
            "other_account" => Some(Self::OtherAccount),
            "sign_out" => Some(Self::SignOut),
            "backchannel_logout" => Some(Self::BackchannelLogout),
            "frontchannel_logout" => Some(Self::FrontchannelLogout),
            "userinfo" => Some(Self::Userinfo),
            "jwks" => Some(Self::Jwks),
            _ => None,
        }
    }

    fn takes(self, method: &Method) -> bool {
        let head_as_well = matches!(self, Self::Start | Self::SignIn | Self::SignOut | Self::Jwks);
        self.methods().contains(method) || (*method == Method::HEAD && head_as_well)
    }

    /// A HEAD must not use up the code that a GET is to redeem, nor end what a GET is to end.
    fn methods(self) -> &'static [Method] {
        match self {
            Self::Start | Self::SignIn | Self::Callback | Self::FrontchannelLogout | Self::Userinfo | Self::Jwks => {
                &[Method::GET]
            }
            Self::SignOut => &[Method::GET, Method::POST],
            Self::OtherAccount | Self::BackchannelLogout => &[Method::POST],
        }
    }
}

impl Gateway {
    /// The endpoint at a path; `None` for a path that is not reserved.
    pub(super) fn endpoint_at(&self, path: &str) -> Option<Result<Endpoint, Error>> {
        let rest = path.strip_prefix(&*self.settings.auth_prefix)?;
        match rest.strip_prefix('/') {
            Some(name) if self.is_own_callback(name) => Some(Ok(Endpoint::Callback)),
            Some(name) => Some(Endpoint::named(name).ok_or(Error::NoEndpoint)),
            None if rest.is_empty() => Some(Err(Error::NoEndpoint)),
            None => None,
        }
    }

    /// Whether it is the redirect URI of one provider beside others. Whose response came to it, the attempt knows.
    fn is_own_callback(&self, name: &str) -> bool {
        let provider = name.strip_prefix("callback/");
        provider.is_some_and(|name| self.providers.iter().any(|provider| provider.id().as_str() == name))
    }

    pub(super) async fn serve(
        &self,
        endpoint: Endpoint,
        request: Scrubbed,
        credential: &Credential,
        origin: &Origin,
        visit: &mut Visit<'_>,
        now: Timestamp,
    ) -> Result<Response<Body>, Error> {
        visit.decision = "endpoint";
        if !endpoint.takes(&request.parts().method) {
            return Err(Error::MethodNotAllowed(endpoint.methods().to_vec()));
        }
        let query = request.target().query().unwrap_or("");
        match endpoint {
            Endpoint::Start => self.start(query, &request, credential, origin, visit, now).await,
            Endpoint::Callback => {
                self.finish_login(request.target(), credential, origin, visit, now)
                    .await
            }
            Endpoint::SignIn => self.sign_in(query, &request, credential, origin, visit),
            Endpoint::OtherAccount => {
                self.other_account(query, &request, credential, origin, visit, now)
                    .await
            }
            Endpoint::SignOut => self.sign_out(query, &request, credential, origin, visit, now).await,
            Endpoint::BackchannelLogout => self.backchannel_logout(request, visit, now).await,
            Endpoint::FrontchannelLogout => self.frontchannel_logout(query, visit, now).await,
            Endpoint::Userinfo => self.userinfo(credential, origin, visit, now).await,
            Endpoint::Jwks => Ok(self.published_keys(now)),
        }
    }

    async fn start(
        &self,
        query: &str,
        request: &Scrubbed,
        credential: &Credential,
        origin: &Origin,
        visit: &mut Visit<'_>,
        now: Timestamp,
    ) -> Result<Response<Body>, Error> {
        self.limits.starts.count(visit.address)?;
        let return_to = &*self.way_back(query, request)?;
        let account = account(query)?;
        let demand = self.demand_of(return_to, request, visit);
        let Some(name) = parameter(query, "provider")? else {
            let wish = Wish {
                demand,
                return_to,
                account,
            };
            return self.send_to_login(wish, credential, origin, visit, now).await;
        };
        visit.has_choice = demand.providers.len() > 1;
        visit.way_back = Some(return_to.to_owned());
        let chosen = demand.providers.iter().find(|provider| provider.as_str() == name);
        let attempt = Attempt {
            provider: chosen.ok_or(Error::Parameter("provider"))?,
            return_to,
            strength: demand.strength,
            account,
        };
        let location = self.begin_login(attempt, credential, origin, visit, now).await?;
        Ok(respond::redirect(&location))
    }

    /// For whoever may not enter as the one they are: a login that asks who they are, and back to the same page.
    ///
    /// As with a sign-out, a page of another site cannot do it (N-107).
    async fn other_account(
        &self,
        query: &str,
        request: &Scrubbed,
        credential: &Credential,
        origin: &Origin,
        visit: &mut Visit<'_>,
        now: Timestamp,
    ) -> Result<Response<Body>, Error> {
        if visit.reader.initiator == Initiator::ForeignSite {
            return Err(Error::ForeignSignOut);
        }
        self.limits.starts.count(visit.address)?;
        let return_to = &*self.way_back(query, request)?;
        let wish = Wish {
            demand: self.demand_of(return_to, request, visit),
            return_to,
            account: Account::Another,
        };
        // First, so that whoever cannot log in now keeps the session.
        let location = self.way_to_login(wish, credential, origin, visit, now).await?;
        let jar = self.sessions.jar(origin, &credential.cookies);
        if let Some(session) = self.sessions.end(&jar, origin, now).await? {
            self.give_back_token(&session, now);
        }
        visit.cookies.extend(jar.delete_split());
        for forgotten in [TRIES, CHOICE] {
            visit.cookies.extend(jar.delete(forgotten));
        }
        Ok(self.pages.go_on("One moment", &location, &visit.id()))
    }

    fn sign_in(
        &self,
        query: &str,
        request: &Scrubbed,
        credential: &Credential,
        origin: &Origin,
        visit: &Visit<'_>,
    ) -> Result<Response<Body>, Error> {
        let return_to = self.way_back(query, request)?;
        let account = account(query)?;
        let demand = self.demand_of(&return_to, request, visit);
        let jar = self.sessions.jar(origin, &credential.cookies);
        let chosen = chosen_before(&jar, &demand.providers);
        let (first, others): (Vec<_>, Vec<_>) = demand.providers.iter().partition(|id| Some(*id) == chosen);
        let choices = first
            .into_iter()
            .chain(others)
            .filter_map(|id| self.providers.by_id(id))
            .map(|provider| {
                let query = login_query(&return_to, account);
                let path = format!(
                    "{}/start?provider={}&{query}",
                    self.settings.auth_prefix,
                    encoded(provider.id().as_str())
                );
                (provider.display_name().to_owned(), path, Some(provider.id()) == chosen)
            });
        let chooser = Chooser {
            choices: choices.collect(),
        };
        if chooser.choices.is_empty() {
            return Err(Error::NoEndpoint);
        }
        Ok(self.pages.chooser(&chooser, &visit.id()))
    }

    /// The path and query that `rd` names, written anew by the one parser that also reads requests (I16).
    fn way_back(&self, query: &str, request: &Scrubbed) -> Result<String, Error> {
        let Some(rd) = parameter(query, "rd")? else {
            return Ok("/".to_owned());
        };
        let target = local_target(&rd, request).ok_or(Error::Parameter("rd"))?;
        // Back to a reserved path would be a way in circles.
        if self.endpoint_at(target.path()).is_some() {
            return Ok("/".to_owned());
        }
        Ok(target.path_and_query().to_owned())
    }

    /// What a browser needs to get to a path: the providers that it may choose from, and how strong a login. Where it
    /// needs none, all providers of this origin.
    fn demand_of(&self, return_to: &str, request: &Scrubbed, visit: &Visit<'_>) -> LoginDemand {
        let target = local_target(return_to, request);
        let nobody = Peer::at(Ipv4Addr::UNSPECIFIED.into());
        let asked = Asked::of(request, visit.reader.client, visit.reader.initiator, nobody);
        let facts = RequestFacts {
            method: &Method::GET,
            path: target.as_ref().map_or("/", Target::path),
            ..asked.facts(visit.now)
        };
        if let Lookup::Found(route) = self.routes.find(&facts)
            && let Access::Protected(admission) = &route.access
            && admission.session
        {
            return LoginDemand {
                providers: admission.providers.clone(),
                strength: admission.allow.strength.clone(),
            };
        }
        let mut all: Vec<ProviderId> = Vec::new();
        for route in self.routes.iter().filter(|route| route.is_at(facts.host)) {
            if let Access::Protected(admission) = &route.access
                && admission.session
            {
                all.extend_from_slice(&admission.providers);
            }
        }
        all.sort_unstable();
        all.dedup();
        LoginDemand {
            providers: all.into(),
            strength: Strength::default(),
        }
    }

    pub(super) fn sign_in_path(&self, return_to: &str, account: Account) -> String {
        let query = login_query(return_to, account);
        format!("{}/sign_in?{query}", self.settings.auth_prefix)
    }
}

/// The parameters that a login begins with; `prompt` is OpenID Connect's (Core §3.1.2.1).
fn login_query(return_to: &str, account: Account) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("rd", return_to);
    match account {
        Account::Any => query.finish(),
        Account::Another => query.append_pair("prompt", OTHER_ACCOUNT).finish(),
    }
}

const OTHER_ACCOUNT: &str = "select_account";

fn account(query: &str) -> Result<Account, Error> {
    match parameter(query, "prompt")?.as_deref() {
        None => Ok(Account::Any),
        Some(OTHER_ACCOUNT) => Ok(Account::Another),
        Some(_) => Err(Error::Parameter("prompt")),
    }
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A parameter that stands at most once.
pub(super) fn parameter(query: &str, name: &'static str) -> Result<Option<String>, Error> {
    let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
    let value = values.next().map(|(_, value)| value.into_owned());
    match values.next() {
        Some(_) => Err(Error::Parameter(name)),
        None => Ok(value),
    }
}

/// A path on this very host, as a request for it would be read.
fn local_target(rd: &str, request: &Scrubbed) -> Option<Target> {
    if !rd.starts_with('/') {
        return None;
    }
    let authority = match request.target().port() {
        Some(port) => format!("{}:{port}", request.target().host()),
        None => request.target().host().to_owned(),
    };
    let request = Request::get(rd).header(header::HOST, authority).body(()).ok()?;
    Target::read(&request.into_parts().0).ok()
}
