//! From a TOML document to values, with every problem on the way: nothing stops at the first.

use serde_json::{Value, json};
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

    /// What a value looks like, as JSON Schema has it.
    fn schema() -> Value;

    /// The keys below this one, as paths with `*` for names; none for a plain value.
    fn keys_below(_path: &str) -> Vec<String> {
        Vec::new()
    }
}

/// What is written as a string.
pub(super) trait FromText: Sized {
    /// How such a value looks, in TOML.
    const EXAMPLE: &'static str = "\"…\"";

    /// All there are, where they can be counted.
    const WORDS: &'static [&'static str] = &[];

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

    pub(super) fn name(&self, name: &str) -> Self {
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

pub(super) fn as_table<'a>(node: &'a Node<'a>, place: &Place, findings: &mut Findings) -> Option<&'a DeTable<'a>> {
    let DeValue::Table(table) = node.get_ref() else {
        let shown = &place.shown;
        mistyped(node, place, "a table", &format!("[{shown}]"), findings);
        return None;
    };
    Some(table)
}

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
        DeValue::Table(_) if wanted == "a list" => "put a name that has dots in it into quotes".into(),
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

    fn schema() -> Value {
        match T::WORDS {
            [] => json!({ "type": "string" }),
            words => json!({ "type": "string", "enum": words }),
        }
    }
}

/// A key that is a word of the language has to be written raw.
pub(super) fn key_name(identifier: &'static str) -> &'static str {
    identifier.strip_prefix("r#").unwrap_or(identifier)
}

/// The tables of the file: each a struct with a [`Field`] for every key.
macro_rules! tables {
    ($(
        $(#[doc = $doc:literal])*
        struct $name:ident $(requires [$($required:ident),+])? {
            $( $(#[doc = $key_doc:literal])* $(#[expect($($lint:tt)*)])? $key:ident: $kind:ty, )+
        }
    )+) => { $(
        $(#[doc = $doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name {
            $( $(#[doc = $key_doc])* $(#[expect($($lint)*)])? pub(super) $key: Field<$kind>, )+
        }

        impl Read for $name {
            fn read(node: &Node<'_>, place: &Place, findings: &mut Findings) -> Option<Self> {
                let mut table = TableReader::open(node, place, findings)?;
                let read = Self { $( $key: table.take(key_name(stringify!($key))), )+ };
                table.close(&[$( key_name(stringify!($key)) ),+]);
                Some(read)
            }

            fn schema() -> serde_json::Value {
                let required: &[&str] = &[$( $(stringify!($required)),+ )?];
                let properties = [$( schema::property::<$kind>(
                    key_name(stringify!($key)),
                    concat!($($key_doc, "\n",)* ""),
                ) ),+];
                schema::table(concat!($($doc, "\n",)* ""), properties.into(), required)
            }

            fn keys_below(path: &str) -> Vec<String> {
                [$( key_and_below::<$kind>(path, key_name(stringify!($key))) ),+].concat()
            }
        }
    )+ };
}

/// Enumerations of words.
macro_rules! words {
    ($( $kind:ty { $( $word:literal => $value:expr, )+ } )+) => { $(
        impl FromText for $kind {
            const WORDS: &'static [&'static str] = &[$( $word ),+];

            fn from_text(text: &str) -> Result<Self, Wrong> {
                match text {
                    $( $word => Ok($value), )+
                    _ => Err(vocabulary::unknown_word(text, Self::WORDS)),
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
