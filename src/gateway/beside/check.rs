//! Envoy asks over gRPC: one call for each request.

use std::{mem::take, net::IpAddr, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::{
    Answer, BadQuestion, Manner, Original,
    message::{self, CheckRequest},
    original::Named,
};
use crate::{
    gateway::{Error, Gateway, Visit},
    upstream::{body::Body, headers::is_grpc, target::Target},
};

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// A question holds a whole head, and no body where Envoy is not told to send it.
const MAX_QUESTION: usize = 256 * 1_024;
const PATIENCE: Duration = Duration::from_secs(10);

impl Gateway {
    /// Whether it is such a call; under a host of a route it would be the application's.
    pub(in crate::gateway) fn is_check(&self, parts: &Parts, target: &Target) -> bool {
        target.path_and_query() == CHECK && is_grpc(parts) && self.routes.origin(target.host(), target.port()).is_none()
    }

    /// Answers a call.
    pub(in crate::gateway) async fn check(
        &self,
        call: Incoming,
        peer: IpAddr,
        visit: &mut Visit<'_>,
    ) -> Result<Response<Body>, Error> {
        if !self.scrubber.trusts(peer) {
            visit.reader.is_grpc = true;
            return Err(BadQuestion::Untrusted(peer).into());
        }
        let answer = match self.checked(call, visit).await {
            Ok(answer) => answer,
            Err(error) => Answer::Refused(self.fail(&error, visit)),
        };
        let cookies = take(&mut visit.cookies);
        Ok(reply(&match answer {
            Answer::Allowed(told) => message::allowed(&told.headers, &told.absent, &cookies),
            Answer::Refused(response) => {
                let (mut parts, body) = response.into_parts();
                parts
                    .headers
                    .extend(cookies.into_iter().map(|cookie| (header::SET_COOKIE, cookie)));
                // It is a text of the gateway's own, which does not break off.
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                message::denied(parts.status, &parts.headers, &body)
            }
        }))
    }

    async fn checked(&self, call: Incoming, visit: &mut Visit<'_>) -> Result<Answer, Error> {
        let unreadable = BadQuestion::Unreadable("CheckRequest");
        let call = timeout(PATIENCE, Limited::new(call, MAX_QUESTION).collect()).await;
        let call = call.ok().and_then(Result::ok).ok_or(unreadable)?.to_bytes();
        let question = CheckRequest::read(only_message(&call).ok_or(unreadable)?).map_err(|_| unreadable)?;
        let named = Named {
            method: question.method,
            scheme: question.scheme,
            authority: question.host,
            uri: question.path,
        };
        let original = Original::named(named, question.headers, question.source.to_canonical())?;
        self.judge(Manner::Envoy(question.path), original, visit).await
    }
}

/// Of a call with one message, not compressed (gRPC over HTTP/2, "Length-Prefixed-Message").
fn only_message(call: &Bytes) -> Option<&[u8]> {
    let (head, message) = call.split_at_checked(5)?;
    let (compressed, length) = head.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    (*compressed == 0 && usize::try_from(length).ok()? == message.len()).then_some(message)
}

/// A reply that is OK; whether the request is, the message says.
fn reply(message: &[u8]) -> Response<Body> {
    let mut framed = BytesMut::with_capacity(message.len().saturating_add(5));
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    let trailers = HeaderMap::from_iter([(super::GRPC_STATUS, HeaderValue::from_static("0"))]);
    let mut response = Response::new(Body::with_trailers(framed.freeze(), trailers));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}
