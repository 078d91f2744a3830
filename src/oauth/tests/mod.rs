//! The rules of the protocol's messages, one file for each kind of message.

mod access_token;
mod authorization;
mod discovery;
mod id_token;
mod introspection;
mod jwks;
mod jwt;
mod logout_token;
pub(crate) mod signer;
mod signing;
mod token;

use bytes::Bytes;
use http::{Response, header};
use serde_json::Value;

use crate::{identity::Claims, time::Timestamp};

/// When every test takes place.
pub(crate) const NOW: Timestamp = Timestamp::from_unix(1_900_000_000);

pub(crate) fn answer(status: u16, body: &Value) -> Response<Bytes> {
    answer_as(status, "application/json", &body.to_string())
}

pub(crate) fn answer_as(status: u16, content_type: &str, body: &str) -> Response<Bytes> {
    let answer = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type);
    answer.body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

fn claims(value: &Value) -> Claims {
    Claims::from_json(value.to_string().as_bytes()).unwrap()
}

/// The object with some members replaced; `null` takes one away.
pub(crate) fn with(object: &Value, changes: &Value) -> Value {
    let mut object = object.as_object().unwrap().clone();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => object.remove(name),
            value => object.insert(name.clone(), value.clone()),
        };
    }
    Value::Object(object)
}
