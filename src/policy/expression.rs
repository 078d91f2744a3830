//! `expression`: a requirement in the Common Expression Language (CEL), for what the other keys cannot say.
//!
//! It is compiled once, when the file is loaded, and there it is refused unless all of it is known: its names, its functions,
//! and what it can cost at most. A request then pays for what the expression names, and nothing else is copied.

mod values;
mod vet;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
    thread,
};

use cel::{
    Context, Env, ExecutionError, IdedExpr, Value,
    common::{
        ast::SourceInfo,
        types::{CelBool, CelInt, CelString},
    },
    parser::{ParseErrors, Parser},
};

use self::{values::Texts, vet::Needs};
use super::Case;
use crate::identity::ClaimPath;

/// An expression that was found good, and the table that it stands in.
#[derive(Clone)]
pub struct Expression {
    source: Box<str>,
    side: Side,
    program: Arc<Program>,
}

struct Program {
    tree: IdedExpr,
    needs: Needs,
}

/// The table that an expression stands in: what is not certain counts against the person in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Only `true` is met.
    Allow,
    /// Only `false` does not apply.
    Deny,
}

/// Why an expression cannot be used, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub why: Why,
}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error("is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("is nested too deeply")]
    TooDeep,
    #[error("is not CEL: {0}")]
    Syntax(String),
    #[error("uses the unknown name `{0}`")]
    UnknownName(String),
    #[error("uses the unknown function `{0}`")]
    UnknownFunction(String),
    #[error("has a loop in a loop")]
    NestedLoop,
    #[error("uses `{0}` as a whole")]
    Whole(&'static str),
    #[error("calls an element `{0}`, which is a name already")]
    Shadowed(String),
    #[error("has {0}, which is not supported")]
    Unsupported(&'static str),
    #[error("is the same for every request")]
    Constant,
    #[error("is neither true nor false")]
    NotBoolean,
    #[error("could cost too much")]
    TooCostly,
}

/// Why an expression says neither yes nor no.
#[derive(Debug, thiserror::Error)]
pub(super) enum Uncertain {
    /// Mostly: a claim is missing, or has another type.
    #[error("{0}")]
    Failed(Box<ExecutionError>),
    #[error("it is not a boolean")]
    NotBoolean,
    /// The provider keeps elsewhere what it looks at (OIDC Core §5.6.2).
    #[error("the provider keeps {0} elsewhere")]
    Elsewhere(Box<str>),
    #[error("there are too many claims to look at")]
    TooCostly,
    #[error("it cannot be evaluated")]
    Broken,
}

/// Of an expression, in bytes.
const MAX_BYTES: usize = 2_048;

/// Of nested parts of an expression.
const MAX_DEPTH: u16 = 32;

const STACK_BYTES: usize = 32 * 1_024 * 1_024;

/// The steps of one evaluation, at worst: some milliseconds.
const MAX_COST: u64 = 500_000;

/// The functions and operators of the standard; the optional values are an extension.
static LIBRARY: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::default().with_optional_support(false).with_stdlib()));

impl Expression {
    /// Every name that an expression may use.
    pub const NAMES: &'static [&'static str] = &[
        "claims",
        "groups",
        "scopes",
        "email",
        "subject",
        "username",
        "issuer",
        "provider",
        "request.method",
        "request.host",
        "request.path",
        "request.address",
        "now",
    ];

    /// Every function that an expression may use, beside the operators.
    pub const FUNCTIONS: &'static [&'static str] = &[
        "has",
        "size",
        "startsWith",
        "endsWith",
        "contains",
        "exists",
        "exists_one",
        "all",
        "filter",
        "int",
        "double",
        "string",
    ];

    /// Reads an expression.
    ///
    /// # Errors
    /// The first thing in it that is wrong, or that this gateway does not evaluate.
    pub fn compile(source: &str, side: Side) -> Result<Self, Refusal> {
        if source.len() > MAX_BYTES {
            return Err(Refusal::at_the_start(Why::TooLong));
        }
        let (tree, places) = parse(source)?;
        // So that no request waits for it.
        LazyLock::force(&LIBRARY);
        let needs = vet::vet(&tree, &places)?;
        Ok(Self {
            source: source.into(),
            side,
            program: Arc::new(Program { tree, needs }),
        })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// The claims that it looks at.
    pub fn claims(&self) -> Vec<ClaimPath> {
        self.program.needs.claims.paths()
    }

    /// Whether it looks at the verified address.
    pub fn uses_email(&self) -> bool {
        self.program.needs.uses("email")
    }

    /// Whether it looks at who vouches for the person.
    pub fn tells_providers_apart(&self) -> bool {
        ["provider", "issuer"].iter().any(|name| self.program.needs.uses(name))
    }

    /// Whether it looks at the person at all, and not only at the request.
    pub fn names_somebody(&self) -> bool {
        let personal = ["groups", "scopes", "email", "subject", "username"];
        let needs = &self.program.needs;
        !needs.claims.is_empty() || personal.iter().any(|name| needs.uses(name))
    }

    /// Whether the requirement is met, or the denial applies; what is uncertain counts against the person.
    pub(super) fn is_met(&self, case: Case<'_>) -> bool {
        let against = match self.side {
            Side::Allow => false,
            Side::Deny => true,
        };
        self.verdict(case).unwrap_or(against)
    }

    /// What it says of a case.
    pub(super) fn verdict(&self, case: Case<'_>) -> Result<bool, Uncertain> {
        // A mistake in the library may cost this decision, and nothing else.
        catch_unwind(AssertUnwindSafe(|| self.evaluate(case))).unwrap_or(Err(Uncertain::Broken))
    }

    fn evaluate(&self, case: Case<'_>) -> Result<bool, Uncertain> {
        let Program { tree, needs } = &*self.program;
        let context = context(needs, case)?;
        let value = Value::resolve_val(tree, &context).map_err(|error| Uncertain::Failed(error.into()))?;
        let boolean = value.downcast_ref::<CelBool>().ok_or(Uncertain::NotBoolean)?;
        Ok(*boolean.inner())
    }
}

/// Parses on a stack of its own: the parser takes up to 200 KiB for each level of brackets before its own limit stops it.
fn parse(source: &str) -> Result<(IdedExpr, SourceInfo), Refusal> {
    let unreadable = || Refusal::at_the_start(Why::Syntax("it cannot be parsed".into()));
    let source = source.to_owned();
    let parser = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        let parser = Parser::new().max_recursion_depth(MAX_DEPTH);
        parser.parse_with_source_info(&source).map_err(|errors| syntax(&errors))
    });
    let parsed = parser.map_err(|_| unreadable())?.join();
    parsed.map_err(|_| unreadable())?
}

/// What the expression sees of a case: what it names, and of the claims only the parts that it names.
fn context<'v>(needs: &'v Needs, case: Case<'v>) -> Result<Context<'v, 'v>, Uncertain> {
    let (identity, request) = (case.identity, case.request);
    let mut context = Context::with_env(LIBRARY.clone());
    let mut size: u64 = 0;
    for name in &needs.names {
        let text = match &**name {
            "groups" if identity.groups_unknown => return Err(Uncertain::Elsewhere("the groups".into())),
            "groups" => {
                let groups = Texts::new(identity.groups.iter().map(|group| &**group), &mut size);
                context.add_variable_as_val(*name, Box::new(groups));
                continue;
            }
            "scopes" => {
                let scopes = Texts::new(identity.scopes.iter(), &mut size);
                context.add_variable_as_val(*name, Box::new(scopes));
                continue;
            }
            "now" => {
                context.add_variable_as_val(*name, Box::new(CelInt::from(case.now.unix())));
                continue;
            }
            "request.address" => {
                let address = request.address.to_string();
                context.add_variable_as_val(*name, Box::new(CelString::from(address)));
                continue;
            }
            "email" => identity.email.as_deref(),
            "username" => identity.username.as_deref(),
            "subject" => Some(identity.subject.as_str()),
            "issuer" => Some(identity.issuer.as_str()),
            "provider" => Some(identity.provider.as_str()),
            "request.method" => Some(request.method.as_str()),
            "request.host" => Some(request.host),
            "request.path" => Some(request.path),
            _ => None,
        };
        // What is not there has no value: naming it fails.
        if let Some(text) = text {
            size = size.saturating_add(values::size_of_text(text));
            context.add_variable_as_val(*name, Box::new(CelString::from(text)));
        }
    }
    if !needs.claims.is_empty() {
        // Not even `has()` can tell.
        if let Some(path) = values::elsewhere(&needs.claims, &identity.claims) {
            return Err(Uncertain::Elsewhere(path.to_string().into()));
        }
        let claims = values::claims(&needs.claims, &identity.claims, &mut size);
        context.add_variable_as_val("claims", Box::new(claims));
    }
    let affordable = needs.cost.at(size) <= MAX_COST;
    affordable.then_some(context).ok_or(Uncertain::TooCostly)
}

fn syntax(errors: &ParseErrors) -> Refusal {
    let Some(first) = errors.errors.first() else {
        return Refusal::at_the_start(Why::Syntax("it cannot be parsed".into()));
    };
    let (line, column) = first.pos;
    let why = match first.msg.contains("Recursion limit") {
        true => Why::TooDeep,
        false => Why::Syntax(first.msg.trim().to_owned()),
    };
    Refusal {
        line: usize::try_from(line).unwrap_or(1).max(1),
        column: usize::try_from(column).unwrap_or(1).max(1),
        why,
    }
}

impl Refusal {
    const fn at_the_start(why: Why) -> Self {
        Self {
            line: 1,
            column: 1,
            why,
        }
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.side == other.side && self.source == other.source
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

#[cfg(test)]
mod tests;
