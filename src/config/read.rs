//! From a TOML document to values, with every problem on the way: nothing stops at the first.

use serde_json::Value;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    report::{Findings, Span},
    vocabulary,
};

/// A piece of the document.
pub(super) type Node<'a> = Spanned<DeValue<'a>>;

/// What can stand in the file.
pub(super) trait Read: Sized {
    /// Reads a value; `None` when it was found wrong, and said so.
    fn read(node: &Node<'_>, place: &Place, findings: &mut Findings) -> Option<Self>;

    /// The keys below this one, as paths with `*` for names; none for a plain value.
    fn keys_below(_path: &str) -> Vec<String> {
        Vec::new()
    }
}

/// What is written as a string.
pub(super) trait FromText: Sized {
    /// How such a value looks, in TOML.
    const EXAMPLE: &'static str = "\"…\"";

    fn from_text(text: &str) -> Result<Self, Wrong>;
}

/// What is wrong with a text, and what to write instead.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) instead: String,
}

pub(super) fn wrong(what: impl Into<String>, instead: impl Into<String>) -> Wrong {
    let (what, instead) = (what.into(), instead.into());
    Wrong { what, instead }
}

/// Where in the file's tree a value stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// As the operator wrote it: `provider.corp.issuer`.
    pub(super) shown: String,
    /// As the vocabulary has it: `provider.*.issuer`.
    path: String,
}

impl Place {
    fn key(&self, key: &str) -> Self {
        Self {
            shown: joined(&self.shown, key),
            path: joined(&self.path, key),
        }
    }

    fn name(&self, name: &str) -> Self {
        Self {
            shown: joined(&self.shown, name),
            path: joined(&self.path, "*"),
        }
    }

    fn table(&self) -> String {
        match &*self.shown {
            "" => "the file".into(),
            shown => format!("[{shown}]"),
        }
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.into()
    } else {
        format!("{path}.{key}")
    }
}

/// A key with every key below it.
pub(super) fn key_and_below<T: Read>(path: &str, key: &str) -> Vec<String> {
    let path = joined(path, key);
    let below = T::keys_below(&path);
    if below.is_empty() { vec![path] } else { below }
}

/// A value, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) at: Span,
    pub(super) value: T,
}

/// A key of a table.
#[derive(Debug, Default)]
pub(super) enum Field<T> {
    #[default]
    Absent,
    /// It is there and was found wrong: no more is said about it.
    Wrong,
    Given(At<T>),
}

impl<T> Field<T> {
    pub(super) fn given(&self) -> Option<&At<T>> {
        match self {
            Self::Given(given) => Some(given),
            Self::Absent | Self::Wrong => None,
        }
    }

    pub(super) fn value(&self) -> Option<&T> {
        self.given().map(|given| &given.value)
    }

    pub(super) fn at(&self) -> Option<Span> {
        self.given().map(|given| given.at)
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    pub(super) fn into_value(self) -> Option<T> {
        match self {
            Self::Given(given) => Some(given.value),
            Self::Absent | Self::Wrong => None,
        }
    }

    pub(super) fn is_wrong(&self) -> bool {
        matches!(self, Self::Wrong)
    }

    pub(super) fn or_default(self) -> T
    where
        T: Default,
    {
        self.into_value().unwrap_or_default()
    }

    pub(super) fn or(self, default: T) -> T {
        self.into_value().unwrap_or(default)
    }
}

/// A table that is being read: each key is taken once, and what is left over is unknown.
pub(super) struct TableReader<'a, 'f> {
    table: &'a DeTable<'a>,
    place: &'a Place,
    findings: &'f mut Findings,
}

impl<'a, 'f> TableReader<'a, 'f> {
    pub(super) fn open(node: &'a Node<'a>, place: &'a Place, findings: &'f mut Findings) -> Option<Self> {
        let table = as_table(node, place, findings)?;
        Some(Self { table, place, findings })
    }

    pub(super) fn take<T: Read>(&mut self, key: &str) -> Field<T> {
        let Some(node) = self.table.get(key) else {
            return Field::Absent;
        };
        match T::read(node, &self.place.key(key), self.findings) {
            Some(value) => Field::Given(At {
                at: node.span().into(),
                value,
            }),
            None => Field::Wrong,
        }
    }

    /// Refuses the keys that the vocabulary does not have here.
    pub(super) fn close(self, known: &[&str]) {
        for key in self.table.keys().filter(|key| !known.contains(&&**key.get_ref())) {
            let name = &**key.get_ref();
            let path = self.place.key(name).path;
            let unknown = vocabulary::unknown_key(name, &path, known);
            let message = format!("{} `{name}` in {}", unknown.what, self.place.table());
            self.findings.problem(key.span().into(), message, unknown.instead);
        }
    }
}

fn as_table<'a>(node: &'a Node<'a>, place: &Place, findings: &mut Findings) -> Option<&'a DeTable<'a>> {
    let DeValue::Table(table) = node.get_ref() else {
        let shown = &place.shown;
        mistyped(node, place, "a table", &format!("[{shown}]"), findings);
        return None;
    };
    Some(table)
}

const A_LIST: &str = "a list";

/// Says that a value has the wrong type.
pub(super) fn mistyped(node: &Node<'_>, place: &Place, wanted: &str, example: &str, findings: &mut Findings) {
    let found = match node.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    let message = format!("`{}` is {found}, and must be {wanted}", place.shown);
    let instead = match node.get_ref() {
        // `{ realm_access.roles = […] }` is a table in a table.
        DeValue::Table(_) if wanted == A_LIST => "put a name that has dots in it into quotes".into(),
        _ => format!("write it like this: {example}"),
    };
    findings.problem(node.span().into(), message, instead);
}

impl<T: FromText> Read for T {
    fn read(node: &Node<'_>, place: &Place, findings: &mut Findings) -> Option<Self> {
        let DeValue::String(text) = node.get_ref() else {
            mistyped(node, place, "a string", T::EXAMPLE, findings);
            return None;
        };
        let report = |Wrong { what, instead }| {
            findings.problem(node.span().into(), format!("`{}` {what}", place.shown), instead);
        };
        T::from_text(text).map_err(report).ok()
    }
}

impl Read for bool {
    fn read(node: &Node<'_>, place: &Place, findings: &mut Findings) -> Option<Self> {
        let DeValue::Boolean(value) = node.get_ref() else {
            mistyped(node, place, "a boolean", "true", findings);
            return None;
        };
        Some(*value)
    }
}

/// A whole number between two limits, both included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count<const MIN: u64, const MAX: u64>(pub(super) u64);

impl<const MIN: u64, const MAX: u64> Count<MIN, MAX> {
    pub(super) fn to_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
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
}

/// A list that may be empty.
impl<T: Read> Read for Vec<At<T>> {
    fn read(node: &Node<'_>, place: &Place, findings: &mut Findings) -> Option<Self> {
        let DeValue::Array(nodes) = node.get_ref() else {
            mistyped(node, place, A_LIST, "[\"…\"]", findings);
            return None;
        };
        // Every member is read before the list is given up.
        let members: Vec<Option<At<T>>> = nodes.iter().map(|node| read_at(node, place, findings)).collect();
        members.into_iter().collect()
    }

    fn keys_below(path: &str) -> Vec<String> {
        T::keys_below(path)
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
        T::keys_below(&joined(path, "*"))
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
}

fn mistyped_date(node: &Node<'_>, place: &Place, findings: &mut Findings) {
    let message = format!("`{}` is not a date", place.shown);
    findings.problem(
        node.span().into(),
        message,
        "write the last day on which it counts, like \"2027-01-31\"",
    );
}

/// The tables of the file: each a struct with a [`Field`] for every key.
macro_rules! tables {
    ($( $(#[$doc:meta])* struct $name:ident { $( $(#[$key_doc:meta])* $key:ident: $kind:ty, )+ } )+) => { $(
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name {
            $( $(#[$key_doc])* pub(super) $key: Field<$kind>, )+
        }

        impl Read for $name {
            fn read(node: &Node<'_>, place: &Place, findings: &mut Findings) -> Option<Self> {
                let mut table = TableReader::open(node, place, findings)?;
                let read = Self { $( $key: table.take(stringify!($key)), )+ };
                table.close(&[$( stringify!($key) ),+]);
                Some(read)
            }

            fn keys_below(path: &str) -> Vec<String> {
                [$( key_and_below::<$kind>(path, stringify!($key)) ),+].concat()
            }
        }
    )+ };
}

/// Enumerations of words.
macro_rules! words {
    ($( $kind:ty { $( $word:literal => $value:expr, )+ } )+) => { $(
        impl FromText for $kind {
            fn from_text(text: &str) -> Result<Self, Wrong> {
                match text {
                    $( $word => Ok($value), )+
                    _ => Err(vocabulary::unknown_word(text, &[$( $word ),+])),
                }
            }
        }
    )+ };
}

pub(super) use {tables, words};

/// Reads a document whose syntax is known to be right.
pub(super) fn document<T: Read>(document: Spanned<DeTable<'_>>, findings: &mut Findings) -> Option<T> {
    let span = document.span();
    let node = Spanned::new(span, DeValue::Table(document.into_inner()));
    T::read(&node, &Place::default(), findings)
}
