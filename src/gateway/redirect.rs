//! From http to https (RFC 9110 §15.4.9), to the origins of routes and nowhere else.

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use super::{Error, Gateway, Visit, respond::empty};
use crate::{
    identity::Peer,
    upstream::{body::Body, target::Target},
};

impl Gateway {
    /// Sends a client to the same place on https; one that asks for a host without a route is told that there is nothing.
    pub fn redirect(&self, request: &Request<Incoming>, peer: &Peer) -> Response<Body> {
        let mut visit = Visit::begin(self, request.method(), peer);
        let mut response = match self.secure(request, &mut visit) {
            Ok(location) => {
                visit.decision = "endpoint";
                moved(&location)
            }
            Err(error) => self.fail(&error, &mut visit),
        };
        visit.end(&mut response);
        response
    }

    /// The same place on https: whatever port the client came by, the origin is that of the file (I8).
    fn secure(&self, request: &Request<Incoming>, visit: &mut Visit<'_>) -> Result<String, Error> {
        let (parts, ()) = head_of(request).into_parts();
        let target = Target::read(&parts)?;
        visit.arrived_at(&target);
        let origin = self.routes.secure_origin(target.host()).ok_or(Error::NoRoute)?;
        Ok(format!("{origin}{}", target.path_and_query()))
    }
}

/// The request without its body.
fn head_of(request: &Request<Incoming>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    head
}

/// For good, and with the method that it had.
fn moved(location: &str) -> Response<Body> {
    let mut response = empty(StatusCode::PERMANENT_REDIRECT);
    match HeaderValue::from_str(location) {
        Ok(location) => {
            response.headers_mut().insert(header::LOCATION, location);
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}
