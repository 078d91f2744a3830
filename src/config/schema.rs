//! The JSON Schema of the file, made from the same types that read it.

use serde_json::{Map, Value, json};

use super::{file::File, read::Read};

/// The schema of a whole file, for editors (JSON Schema draft 7, which they know best).
pub fn schema() -> Value {
    let mut schema = File::schema();
    if let Value::Object(members) = &mut schema {
        members.insert("$schema".into(), json!("http://json-schema.org/draft-07/schema#"));
        members.insert("title".into(), json!("The configuration of Vestibule"));
    }
    schema
}

/// A key of a table, with what its comment says.
pub(super) fn property<T: Read>(key: &'static str, doc: &str) -> (&'static str, Value) {
    let mut schema = T::schema();
    if let (Value::Object(members), false) = (&mut schema, doc.trim().is_empty()) {
        members.insert("description".into(), prose(doc).into());
    }
    (key, schema)
}

/// A table, which has no other keys than these.
pub(super) fn table(doc: &str, properties: Vec<(&'static str, Value)>, required: &[&str]) -> Value {
    let properties: Map<String, Value> = properties
        .into_iter()
        .map(|(key, schema)| (key.to_owned(), schema))
        .collect();
    let mut table = json!({
        "type": "object",
        "description": prose(doc),
        "properties": properties,
        "additionalProperties": false,
    });
    if let (Value::Object(members), [_, ..]) = (&mut table, required) {
        members.insert("required".into(), required.into());
    }
    table
}

/// The lines of a comment in one.
fn prose(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
