//! Which expressions are evaluated at all: everything in them is known, and they cannot cost much.

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, SelectExpr, SourceInfo, operators},
};

use super::{Expression, MAX_COST, MAX_DEPTH, Refusal, Why, values::Named};

/// What an expression looks at, and what looking costs.
#[derive(Debug, Default)]
pub(super) struct Needs {
    pub(super) names: Vec<&'static str>,
    pub(super) claims: Named,
    pub(super) cost: Growth,
}

impl Needs {
    pub(super) fn uses(&self, name: &str) -> bool {
        self.names.contains(&name)
    }
}

/// How something grows with the size of what an expression is given: c₀ + c₁·n + c₂·n².
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Growth([u64; 3]);

impl Growth {
    const ONE: Self = Self([1, 0, 0]);
    const INPUT: Self = Self([1, 1, 0]);

    pub(super) fn at(self, size: u64) -> u64 {
        let Self([fixed, linear, square]) = self;
        let steep = square.saturating_mul(size).saturating_add(linear);
        steep.saturating_mul(size).saturating_add(fixed)
    }

    const fn plus(self, other: Self) -> Self {
        let (Self([a, b, c]), Self([d, e, f])) = (self, other);
        Self([a.saturating_add(d), b.saturating_add(e), c.saturating_add(f)])
    }

    /// So many times; what would grow faster than the square is as good as endless.
    fn times(self, other: Self) -> Self {
        let (Self([a, b, c]), Self([d, e, f])) = (self, other);
        let faster = b.saturating_mul(f) | c.saturating_mul(e) | c.saturating_mul(f);
        let square = a
            .saturating_mul(f)
            .saturating_add(b.saturating_mul(e))
            .saturating_add(c.saturating_mul(d));
        Self([
            a.saturating_mul(d),
            a.saturating_mul(e).saturating_add(b.saturating_mul(d)),
            if faster == 0 { square } else { u64::MAX },
        ])
    }
}

/// A part of an expression: how large its value can be, and what it takes to get it.
#[derive(Clone, Copy)]
struct Part {
    size: Growth,
    cost: Growth,
}

impl Part {
    const fn of_size(size: Growth) -> Self {
        Self {
            size,
            cost: Growth::ONE,
        }
    }

    /// A number or a boolean that is made by looking at all of this.
    fn looked_at(self) -> Self {
        Self {
            size: Growth::ONE,
            cost: self.cost.plus(self.size),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            size: self.size.plus(other.size),
            cost: self.cost.plus(other.cost),
        }
    }
}

pub(super) fn vet(tree: &IdedExpr, places: &SourceInfo) -> Result<Needs, Refusal> {
    let mut vetting = Vetting {
        places,
        needs: Needs::default(),
        element: None,
        depth: 0,
    };
    let whole = vetting.part(tree)?;
    if vetting.needs.names.is_empty() && vetting.needs.claims.is_empty() {
        return Err(vetting.refuse(tree, Why::Constant));
    }
    if makes_no_boolean(tree) {
        return Err(vetting.refuse(tree, Why::NotBoolean));
    }
    // What cannot be afforded with hardly a claim is a mistake.
    if whole.cost.at(1) > MAX_COST {
        return Err(vetting.refuse(tree, Why::TooCostly));
    }
    Ok(Needs {
        cost: whole.cost,
        ..vetting.needs
    })
}

struct Vetting<'a> {
    places: &'a SourceInfo,
    needs: Needs,
    /// What the loop calls each element, within one.
    element: Option<&'a str>,
    depth: u16,
}

impl<'a> Vetting<'a> {
    fn part(&mut self, node: &'a IdedExpr) -> Result<Part, Refusal> {
        if self.depth >= MAX_DEPTH {
            return Err(self.refuse(node, Why::TooDeep));
        }
        self.depth = self.depth.saturating_add(1);
        let part = self.part_within(node);
        self.depth = self.depth.saturating_sub(1);
        part
    }

    fn part_within(&mut self, node: &'a IdedExpr) -> Result<Part, Refusal> {
        if let Some((root, path)) = path_of(node)
            && Some(root) != self.element
        {
            return self.named(beginning_of(node), root, &path);
        }
        match &node.expr {
            Expr::Literal(literal) => Ok(Part::of_size(Growth([size_of(literal), 0, 0]))),
            Expr::Ident(_) => Ok(Part::of_size(Growth::ONE)),
            Expr::Select(select) => self.selected(node, select),
            Expr::Call(call) => self.called(node, call),
            Expr::List(list) => self.all(&list.elements),
            Expr::Comprehension(comprehension) => self.looped(node, comprehension),
            Expr::Map(_) | Expr::Struct(_) => Err(self.refuse(node, Why::Unsupported("a map"))),
            Expr::Unspecified => Err(self.refuse(node, Why::Unsupported("an empty part"))),
        }
    }

    /// `claims.a.b`, `request.path`, `email`, and what is below the latter.
    fn named(&mut self, node: &'a IdedExpr, root: &str, path: &[&str]) -> Result<Part, Refusal> {
        if path.len() > usize::from(MAX_DEPTH) {
            return Err(self.refuse(node, Why::TooDeep));
        }
        match (root, path) {
            ("claims", []) => return Err(self.refuse(node, Why::Whole("claims"))),
            ("claims", path) => self.needs.claims.insert(path),
            ("request", []) => return Err(self.refuse(node, Why::Whole("request"))),
            ("request", [field, ..]) => self.name(node, &format!("request.{field}"))?,
            ("groups", _) => return Err(self.refuse(node, Why::Whole("groups"))),
            ("scopes", _) => return Err(self.refuse(node, Why::Whole("scopes"))),
            (name, _) => self.name(node, name)?,
        }
        Ok(Part::of_size(Growth::INPUT))
    }

    fn name(&mut self, node: &IdedExpr, name: &str) -> Result<(), Refusal> {
        let known = Expression::NAMES.iter().find(|known| **known == name);
        let known = known.ok_or_else(|| self.refuse(node, Why::UnknownName(name.into())))?;
        if !self.needs.uses(known) {
            self.needs.names.push(known);
        }
        Ok(())
    }

    /// A list that may be long: what is only searched, counted or looped over is not copied.
    fn list(&mut self, node: &'a IdedExpr) -> Result<Part, Refusal> {
        match &node.expr {
            Expr::Ident(name) if matches!(&**name, "groups" | "scopes") => {
                self.name(node, name)?;
                Ok(Part::of_size(Growth::INPUT))
            }
            _ => self.part(node),
        }
    }

    /// A member of what is no name, or `has(…)`.
    fn selected(&mut self, node: &'a IdedExpr, select: &'a SelectExpr) -> Result<Part, Refusal> {
        let Some((root, mut path)) = path_of(&select.operand).filter(|_| select.test) else {
            return self.part(&select.operand);
        };
        path.push(&select.field);
        match root {
            "claims" => self.named(node, root, &path),
            _ if Some(root) == self.element => self.part(&select.operand),
            _ => Err(self.refuse(node, Why::Unsupported("`has` of something that is no claim"))),
        }
    }

    fn called(&mut self, node: &'a IdedExpr, call: &'a CallExpr) -> Result<Part, Refusal> {
        let unknown = || Why::UnknownFunction(call.func_name.clone());
        match (&*call.func_name, &call.target, &*call.args) {
            (operators::IN, None, [wanted, list]) => self.searched(wanted, list),
            ("size", None, [list]) => Ok(self.list(list)?.looked_at()),
            ("size", Some(list), []) => Ok(self.list(list)?.looked_at()),
            ("int" | "double" | "string", None, [value]) => Ok(self.part(value)?.looked_at()),
            ("startsWith" | "endsWith" | "contains", Some(text), [piece]) => {
                Ok(self.part(text)?.and(self.part(piece)?).looked_at())
            }
            (operators::ADD, None, args) => {
                let sum = self.all(args)?;
                let cost = sum.cost.plus(sum.size);
                Ok(Part { cost, ..sum })
            }
            // What is chosen from is as large as all that it could be.
            (operators::CONDITIONAL | operators::INDEX, None, args) => self.all(args),
            (operator, None, args) if OPERATORS.contains(&operator) => Ok(self.all(args)?.looked_at()),
            _ => Err(self.refuse(node, unknown())),
        }
    }

    /// `wanted in list`; and whether a claim is there whose name is no identifier.
    fn searched(&mut self, wanted: &'a IdedExpr, list: &'a IdedExpr) -> Result<Part, Refusal> {
        match (&wanted.expr, &list.expr) {
            (Expr::Literal(LiteralValue::String(name)), Expr::Ident(root)) if root == "claims" => {
                self.named(wanted, root, &[name.inner()])
            }
            _ => Ok(self.part(wanted)?.and(self.list(list)?).looked_at()),
        }
    }

    fn all(&mut self, nodes: &'a [IdedExpr]) -> Result<Part, Refusal> {
        let nothing = Part::of_size(Growth::default());
        nodes
            .iter()
            .try_fold(nothing, |sum, node| Ok(sum.and(self.part(node)?)))
    }

    /// `exists`, `exists_one`, `all` and `filter`: none of them makes more than it is given, unlike `map`.
    fn looped(&mut self, node: &'a IdedExpr, comprehension: &'a ComprehensionExpr) -> Result<Part, Refusal> {
        if self.element.is_some() {
            return Err(self.refuse(node, Why::NestedLoop));
        }
        let element = &*comprehension.iter_var;
        let taken = |known: &&str| known.split('.').next() == Some(element);
        if Expression::NAMES.iter().any(taken) {
            return Err(self.refuse(node, Why::Shadowed(element.into())));
        }
        let is_list = matches!(comprehension.accu_init.expr, Expr::List(_));
        if is_list && !keeps_elements(comprehension) {
            return Err(self.refuse(node, Why::UnknownFunction("map".into())));
        }
        let range = self.list(&comprehension.iter_range)?;
        self.element = Some(element);
        let body = self.body(comprehension);
        self.element = None;
        let size = if is_list { range.size } else { Growth::ONE };
        let round = body?.cost.plus(Growth([4, 0, 0]));
        let cost = range.cost.plus(range.size.times(round));
        Ok(Part { size, cost })
    }

    /// What is asked of each element: the rest of the step is the macro's own.
    fn body(&mut self, comprehension: &'a ComprehensionExpr) -> Result<Part, Refusal> {
        let asked = match &comprehension.loop_step.expr {
            Expr::Call(call) => match (&*call.func_name, &*call.args) {
                (operators::LOGICAL_AND | operators::LOGICAL_OR, [_, asked]) => Some(asked),
                (operators::CONDITIONAL, [asked, ..]) => Some(asked),
                _ => None,
            },
            _ => None,
        };
        let unknown = || Why::Unsupported("a loop of another kind");
        let asked = asked.ok_or_else(|| self.refuse(&comprehension.loop_step, unknown()))?;
        self.part(asked)
    }

    fn refuse(&self, node: &IdedExpr, why: Why) -> Refusal {
        let (start, _) = self.places.offset_for(node.id).unwrap_or_default();
        let before = usize::try_from(start)
            .ok()
            .and_then(|start| self.places.source.get(..start));
        let before = before.unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        Refusal {
            line: before.matches('\n').count().saturating_add(1),
            column: line.chars().count().saturating_add(1),
            why,
        }
    }
}

/// Operators that make a number or a boolean.
const OPERATORS: &[&str] = &[
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::LESS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::GREATER_EQUALS,
    operators::SUBSTRACT,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::NEGATE,
];

/// The name that a node begins with, and the members that follow it: `claims.a["b"]`.
fn path_of(node: &IdedExpr) -> Option<(&str, Vec<&str>)> {
    match &node.expr {
        Expr::Ident(name) if !name.starts_with('@') => Some((name, Vec::new())),
        Expr::Select(select) if !select.test => {
            let (root, mut path) = path_of(&select.operand)?;
            path.push(&select.field);
            Some((root, path))
        }
        Expr::Call(call) if call.func_name == operators::INDEX => match &*call.args {
            [operand, key] => {
                let Expr::Literal(LiteralValue::String(key)) = &key.expr else {
                    return None;
                };
                let (root, mut path) = path_of(operand)?;
                path.push(key.inner());
                Some((root, path))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Where the name stands that a node begins with.
fn beginning_of(node: &IdedExpr) -> &IdedExpr {
    match &node.expr {
        Expr::Select(select) => beginning_of(&select.operand),
        Expr::Call(call) if call.func_name == operators::INDEX => call.args.first().map_or(node, beginning_of),
        _ => node,
    }
}

/// As far as it can be told by looking: a claim may be one.
fn makes_no_boolean(tree: &IdedExpr) -> bool {
    match &tree.expr {
        Expr::Ident(_) | Expr::List(_) => true,
        Expr::Comprehension(comprehension) => matches!(comprehension.accu_init.expr, Expr::List(_)),
        Expr::Select(_) => path_of(tree).is_some_and(|(root, _)| root == "request"),
        Expr::Call(call) => {
            let numeric = [
                operators::ADD,
                operators::SUBSTRACT,
                operators::MULTIPLY,
                operators::DIVIDE,
                operators::MODULO,
                operators::NEGATE,
            ];
            let makes = ["size", "int", "double", "string"];
            numeric.contains(&&*call.func_name) || makes.contains(&&*call.func_name)
        }
        Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => false,
    }
}

/// Whether a loop that makes a list puts the elements themselves into it.
fn keeps_elements(comprehension: &ComprehensionExpr) -> bool {
    let Expr::Call(choice) = &comprehension.loop_step.expr else {
        return false;
    };
    let [_, step, _] = &*choice.args else { return false };
    let Expr::Call(longer) = &step.expr else { return false };
    let [_, added] = &*longer.args else { return false };
    let Expr::List(added) = &added.expr else { return false };
    let is_element = |node: &IdedExpr| matches!(&node.expr, Expr::Ident(name) if *name == comprehension.iter_var);
    matches!(&*added.elements, [only] if is_element(only))
}

fn size_of(literal: &LiteralValue) -> u64 {
    match literal {
        LiteralValue::String(text) => super::values::size_of_text(text.inner()),
        LiteralValue::Bytes(bytes) => u64::try_from(bytes.inner().len()).unwrap_or(u64::MAX),
        LiteralValue::Boolean(_)
        | LiteralValue::Double(_)
        | LiteralValue::Int(_)
        | LiteralValue::Null
        | LiteralValue::UInt(_) => 1,
    }
}
