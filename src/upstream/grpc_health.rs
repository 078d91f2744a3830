//! The health checking protocol of gRPC: `grpc.health.v1.Health/Check`, one question and one answer.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Limited};

use super::{settings::GrpcService, upload::RequestBody};

pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";

/// A message of `HealthCheckResponse` that says `SERVING`, whole: not compressed, of two bytes, the field `status` is 1.
const SERVING: [u8; 7] = [0, 0, 0, 0, 2, 8, 1];

/// No answer is longer than that and is still believed.
const LONGEST: usize = 64;

/// Makes a request the call that asks for a service; its target is for the caller to say.
pub(super) fn ask(service: &GrpcService, request: &mut Request<RequestBody>) {
    *request.method_mut() = http::Method::POST;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    *request.body_mut() = RequestBody::Whole(question(service).into());
}

/// Whether an answer says that the service serves. Anything else says that it does not: another status, an error of the
/// call, what is no answer at all.
pub(super) async fn serves<B: Body<Data = Bytes>>(answer: Response<B>) -> bool
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if answer.status() != StatusCode::OK {
        return false;
    }
    let Ok(body) = Limited::new(answer.into_body(), LONGEST).collect().await else {
        return false;
    };
    body.trailers().is_some_and(is_ok) && *body.to_bytes() == SERVING
}

fn is_ok(trailers: &HeaderMap) -> bool {
    trailers.get("grpc-status").is_some_and(|status| status == "0")
}

/// `HealthCheckRequest`, behind its length.
fn question(service: &GrpcService) -> Vec<u8> {
    let name = service.as_str().as_bytes();
    // No name is longer than a byte says; the server as a whole has none, and what is empty is not written.
    let length = u8::try_from(name.len()).unwrap_or(0);
    let message = match length {
        0 => Vec::new(),
        length => [&[0x0a, length], name].concat(),
    };
    let whole = u32::try_from(message.len()).unwrap_or(0);
    [&[0], &whole.to_be_bytes()[..], &message].concat()
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[test]
    fn a_service_is_named_and_the_server_as_a_whole_is_not() {
        let question = |name| question(&GrpcService::named(name).unwrap());
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let longest = "x".repeat(GrpcService::LONGEST);
        assert_eq!(question(&longest)[..7], [0, 0, 0, 0, 129, 0x0a, 127]);
    }

    async fn judge(status: u16, message: &[u8], trailers: &[(&'static str, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in trailers {
            map.insert(*name, HeaderValue::from_static(value));
        }
        let end = (!map.is_empty()).then_some(Ok(map));
        let body = Full::new(Bytes::copy_from_slice(message)).with_trailers(async { end });
        let mut answer = Response::new(body);
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        serves(answer).await
    }

    #[tokio::test]
    async fn only_serving_is_well() {
        let ok = [("grpc-status", "0")];
        assert!(judge(200, &SERVING, &ok).await);
        for status in [0, 2, 3, 9] {
            assert!(!judge(200, &[0, 0, 0, 0, 2, 8, status], &ok).await, "{status}");
        }
        // An empty message is one whose status is UNKNOWN.
        assert!(!judge(200, &[0, 0, 0, 0, 0], &ok).await);
        assert!(!judge(200, &[SERVING, SERVING].concat(), &ok).await, "it says so twice");
        assert!(!judge(200, &[1, 0, 0, 0, 2, 8, 1], &ok).await, "compressed");
        assert!(!judge(200, &SERVING[..6], &ok).await, "cut off");
        assert!(!judge(200, &SERVING, &[("grpc-status", "14")]).await);
        assert!(!judge(200, &SERVING, &[]).await, "no status");
        assert!(!judge(503, &SERVING, &ok).await);
        assert!(!judge(200, b"<html>", &[]).await);
        assert!(!judge(200, &[0; 100], &ok).await);
    }
}
