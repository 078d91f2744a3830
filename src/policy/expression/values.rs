//! What an expression is given: values that borrow from the identity wherever they can.

use std::{
    collections::{BTreeMap, HashMap},
    slice,
};

use cel::{
    ExecutionError,
    common::{
        traits::{Container, Iterable, Iterator as CelIterator, Sizer},
        types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelNull, CelString, CelUInt, LIST_TYPE, Type},
        value::Val,
    },
};
use serde_json::{Number, Value};

use crate::identity::{ClaimPath, Claims};

/// The claims that an expression names, by their segments; an end stands for all that is below it.
#[derive(Debug, Default)]
pub(super) struct Named(BTreeMap<Box<str>, Named>);

impl Named {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn insert(&mut self, path: &[&str]) {
        let is_new = self.branch(path);
        if let Some(end) = is_new {
            end.0.clear();
        }
    }

    /// The end of a path; nothing where a shorter path has it already.
    fn branch(&mut self, path: &[&str]) -> Option<&mut Self> {
        let Some((first, rest)) = path.split_first() else {
            return Some(self);
        };
        let known = self.0.contains_key(*first);
        let next = self.0.entry((*first).into()).or_default();
        let has_all = known && next.0.is_empty();
        (!has_all).then_some(next)?.branch(rest)
    }

    pub(super) fn paths(&self) -> Vec<ClaimPath> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect<'a>(&'a self, above: &mut Vec<&'a str>, paths: &mut Vec<ClaimPath>) {
        for (name, below) in &self.0 {
            above.push(name);
            if below.is_empty() {
                paths.extend(ClaimPath::from_segments(above));
            }
            below.collect(above, paths);
            above.pop();
        }
    }
}

/// A claim that is named and that somebody else keeps.
pub(super) fn elsewhere(named: &Named, claims: &Claims) -> Option<ClaimPath> {
    let nobody_says_so = claims.member("_claim_names").is_none() && claims.member("hasgroups").is_none();
    if nobody_says_so {
        return None;
    }
    named.paths().into_iter().find(|path| claims.is_elsewhere(path))
}

/// The claims that are named, as far as they are there; `size` grows by what they weigh.
pub(super) fn claims<'v>(named: &'v Named, claims: &'v Claims, size: &mut u64) -> CelMap<'v> {
    members(named, &|name| claims.member(name), size)
}

fn members<'v>(named: &'v Named, member: &dyn Fn(&str) -> Option<&'v Value>, size: &mut u64) -> CelMap<'v> {
    let mut map: HashMap<_, Box<dyn Val + 'v>> = HashMap::with_capacity(named.0.len());
    for (name, below) in &named.0 {
        let Some(value) = member(name) else { continue };
        let value = match value {
            Value::Object(object) if !below.is_empty() => Box::new(members(below, &|name| object.get(name), size)),
            value => whole(value, size),
        };
        map.insert((&**name).into(), value);
    }
    map.into()
}

fn whole<'v>(value: &'v Value, size: &mut u64) -> Box<dyn Val + 'v> {
    *size = size.saturating_add(1);
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(boolean) => Box::new(CelBool::from(*boolean)),
        Value::Number(number) => numeric(number),
        Value::String(text) => {
            *size = size.saturating_add(size_of_text(text));
            Box::new(CelString::from(text.as_str()))
        }
        Value::Array(values) => {
            let values: Vec<Box<dyn Val + 'v>> = values.iter().map(|value| whole(value, size)).collect();
            Box::new(CelList::from(values))
        }
        Value::Object(object) => {
            let members = object.iter().map(|(name, value)| {
                *size = size.saturating_add(size_of_text(name));
                (name.as_str().into(), whole(value, size))
            });
            Box::new(CelMap::from(members.collect::<HashMap<_, _>>()))
        }
    }
}

fn numeric<'v>(number: &Number) -> Box<dyn Val + 'v> {
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(int), ..) => Box::new(CelInt::from(int)),
        (None, Some(uint), _) => Box::new(CelUInt::from(uint)),
        (None, None, Some(double)) => Box::new(CelDouble::from(double)),
        (None, None, None) => Box::new(CelNull),
    }
}

/// Comparing a text takes as long as it is.
pub(super) fn size_of_text(text: &str) -> u64 {
    u64::try_from(text.len() / 16).unwrap_or(u64::MAX).saturating_add(1)
}

/// A list of names, in one piece however long it is.
#[derive(Clone, Debug)]
pub(super) struct Texts<'v>(Vec<CelString<'v>>);

impl<'v> Texts<'v> {
    pub(super) fn new(texts: impl Iterator<Item = &'v str>, size: &mut u64) -> Self {
        let weighed = texts.map(|text| {
            *size = size.saturating_add(size_of_text(text));
            CelString::from(text)
        });
        Self(weighed.collect())
    }
}

impl Val for Texts<'_> {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        &LIST_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_iterable<'b, 'w>(&'b self) -> Option<&'b (dyn Iterable + 'w)>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'w>(&self) -> Box<dyn Val + 'w>
    where
        Self: 'w,
    {
        Box::new(self.clone())
    }
}

impl Container for Texts<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        let wanted = value.downcast_ref::<CelString<'_>>();
        Ok(wanted.is_some_and(|wanted| self.0.iter().any(|text| text.inner() == wanted.inner())))
    }
}

impl Sizer for Texts<'_> {
    fn size(&self) -> CelInt {
        i64::try_from(self.0.len()).unwrap_or(i64::MAX).into()
    }
}

impl Iterable for Texts<'_> {
    fn iter<'b, 'w>(&'b self) -> Box<dyn CelIterator<'b, 'w> + 'b>
    where
        Self: 'w,
    {
        Box::new(Each(self.0.iter()))
    }
}

struct Each<'b, 'v>(slice::Iter<'b, CelString<'v>>);

impl<'b, 'v, 'w> CelIterator<'b, 'w> for Each<'b, 'v>
where
    'v: 'w,
{
    fn next(&mut self) -> Option<&'b (dyn Val + 'w)> {
        self.0.next().map(|text| text as &(dyn Val + 'w))
    }
}
