//! What is not a string: numbers, lists, maps, dates.

use serde_json::{Value, json};
use toml::de::DeValue;

use super::{
    read::{At, FromText, Node, Place, Read, Wrong, as_table, mistyped},
    report::{Findings, Span},
};

impl Read for bool {
    fn read(node: &Node<'_>, place: &Place, findings: &mut Findings) -> Option<Self> {
        let DeValue::Boolean(value) = node.get_ref() else {
            mistyped(node, place, "a boolean", "true", findings);
            return None;
        };
        Some(*value)
    }

    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}

/// A whole number between two limits, both included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count<const MIN: u64, const MAX: u64>(pub(super) u64);

impl<const MIN: u64, const MAX: u64> Count<MIN, MAX> {
    pub(super) fn to_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    pub(super) fn to_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> Read for Count<MIN, MAX> {
    fn read(node: &Node<'_>, place: &Place, findings: &mut Findings) -> Option<Self> {
        let DeValue::Integer(integer) = node.get_ref() else {
            mistyped(node, place, "an integer", &MIN.to_string(), findings);
            return None;
        };
        let count = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let fits = count.filter(|count| (MIN..=MAX).contains(count));
        if fits.is_none() {
            let message = format!("`{}` is out of range", place.shown);
            let instead = if MIN == MAX {
                format!("write {MIN}")
            } else {
                format!("write a number from {MIN} to {MAX}")
            };
            findings.problem(node.span().into(), message, instead);
        }
        fits.map(Self)
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// A list that may be empty.
impl<T: Read> Read for Vec<At<T>> {
    fn read(node: &Node<'_>, place: &Place, findings: &mut Findings) -> Option<Self> {
        let DeValue::Array(nodes) = node.get_ref() else {
            mistyped(node, place, "a list", "[\"…\"]", findings);
            return None;
        };
        // Every member is read before the list is given up.
        let members: Vec<Option<At<T>>> = nodes.iter().map(|node| read_at(node, place, findings)).collect();
        members.into_iter().collect()
    }

    fn keys_below(path: &str) -> Vec<String> {
        T::keys_below(path)
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
    }
}

fn read_at<T: Read>(node: &Node<'_>, place: &Place, findings: &mut Findings) -> Option<At<T>> {
    let value = T::read(node, place, findings)?;
    Some(At {
        at: node.span().into(),
        value,
    })
}

/// A list with at least one member.
#[derive(Clone, Debug)]
pub(super) struct NonEmpty<T>(pub(super) Vec<At<T>>);

impl<T> NonEmpty<T> {
    pub(super) fn values(self) -> impl Iterator<Item = T> {
        self.0.into_iter().map(|member| member.value)
    }
}

impl<T: Read> Read for NonEmpty<T> {
    fn read(node: &Node<'_>, place: &Place, findings: &mut Findings) -> Option<Self> {
        let members = Vec::read(node, place, findings)?;
        if members.is_empty() {
            let message = format!("`{}` is an empty list", place.shown);
            findings.problem(node.span().into(), message, "name at least one, or leave the key out");
            return None;
        }
        Some(Self(members))
    }

    fn keys_below(path: &str) -> Vec<String> {
        T::keys_below(path)
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema(), "minItems": 1 })
    }
}

/// One value, or a list with at least one.
#[derive(Clone, Debug)]
pub(super) struct OneOrMany<T>(pub(super) Vec<At<T>>);

impl<T: Read> Read for OneOrMany<T> {
    fn read(node: &Node<'_>, place: &Place, findings: &mut Findings) -> Option<Self> {
        match node.get_ref() {
            DeValue::Array(_) => NonEmpty::read(node, place, findings).map(|list| Self(list.0)),
            _ => read_at(node, place, findings).map(|one| Self(vec![one])),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [T::schema(), NonEmpty::<T>::schema()] })
    }
}

/// A table whose keys are chosen by the operator, in the order of the file.
#[derive(Debug)]
pub(super) struct Named<N, T>(pub(super) Vec<(At<N>, At<T>)>);

impl<N, T> Default for Named<N, T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<N: FromText, T: Read> Read for Named<N, T> {
    fn read(node: &Node<'_>, place: &Place, findings: &mut Findings) -> Option<Self> {
        let mut entries: Vec<_> = as_table(node, place, findings)?.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entries: Vec<Option<_>> = entries
            .into_iter()
            .map(|(key, node)| {
                // Both are read, so that both are reported.
                let name = read_name(key.get_ref(), key.span().into(), findings);
                let value = read_at(node, &place.name(key.get_ref()), findings);
                name.zip(value)
            })
            .collect();
        entries.into_iter().collect::<Option<_>>().map(Self)
    }

    fn keys_below(path: &str) -> Vec<String> {
        // The keys of a map of plain values are the operator's own.
        T::keys_below(&format!("{path}.*"))
    }

    fn schema() -> Value {
        json!({ "type": "object", "additionalProperties": T::schema() })
    }
}

fn read_name<N: FromText>(text: &str, at: Span, findings: &mut Findings) -> Option<At<N>> {
    let report = |Wrong { what, instead }| {
        findings.problem(at, format!("the name `{text}` {what}"), instead);
    };
    let value = N::from_text(text).map_err(report).ok()?;
    Some(At { at, value })
}

/// A string, number or boolean that a claim can be compared with.
impl Read for Value {
    fn read(node: &Node<'_>, place: &Place, findings: &mut Findings) -> Option<Self> {
        let scalar = match node.get_ref() {
            DeValue::String(text) => Some(Self::from(&**text)),
            DeValue::Boolean(value) => Some(Self::from(*value)),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .map(Self::from),
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .ok()
                .and_then(serde_json::Number::from_f64)
                .map(Self::Number),
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
        };
        if scalar.is_none() {
            mistyped(node, place, "a string, a number or a boolean", "\"reporter\"", findings);
        }
        scalar
    }

    fn schema() -> Value {
        json!({ "type": ["string", "number", "boolean"] })
    }
}

/// A date as TOML has it, or as a string.
impl Read for jiff::civil::Date {
    fn read(node: &Node<'_>, place: &Place, findings: &mut Findings) -> Option<Self> {
        let text = match node.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(date) => date.to_string(),
            _ => String::new(),
        };
        let date = text.parse().ok().filter(|_| text.len() == "2027-01-31".len());
        if date.is_none() {
            mistyped_date(node, place, findings);
        }
        date
    }

    fn schema() -> Value {
        json!({ "type": "string", "format": "date" })
    }
}

fn mistyped_date(node: &Node<'_>, place: &Place, findings: &mut Findings) {
    let message = format!("`{}` is not a date", place.shown);
    findings.problem(
        node.span().into(),
        message,
        "write the last day on which it counts, like \"2027-01-31\"",
    );
}
