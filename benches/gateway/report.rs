//! Tables of what was measured, as they stand in `docs/performance.md`.

use std::fmt::{self, Display, Formatter};

/// What was measured of several in turns.
pub(crate) struct Table {
    title: String,
    rows: Vec<Row>,
    aims: Vec<Aim>,
}

/// One of them, and what it took in each round.
struct Row {
    name: String,
    values: Vec<f64>,
}

/// What a value is compared to.
#[derive(Clone, Copy)]
pub(crate) enum Aim {
    /// The value of another row, round by round, and how many times that it may be where there is an aim.
    Times(&'static str, &'static str, Option<f64>),
    /// A limit of its own.
    AtMost(&'static str, f64),
}

impl Table {
    /// What is measured, and in what unit.
    pub(crate) fn of(title: impl Into<String>, aims: &[Aim]) -> Self {
        Self {
            title: title.into(),
            rows: Vec::new(),
            aims: aims.to_vec(),
        }
    }

    /// One more value of somebody.
    pub(crate) fn add(&mut self, name: &str, value: f64) {
        let row = self.rows.iter_mut().find(|row| row.name == name);
        match row {
            Some(row) => row.values.push(value),
            None => self.rows.push(Row {
                name: name.to_owned(),
                values: vec![value],
            }),
        }
    }

    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// How it does, in words; nothing where there is nothing to compare to.
    fn verdict(&self, row: &Row, aim: Aim) -> Option<String> {
        match aim {
            Aim::Times(name, other, at_most) if name == row.name => {
                let ratios = row.ratios_to(self.row(other)?);
                let [least, ratio, most] = spread(&ratios);
                let range = if ratios.len() > 1 {
                    format!(" ({least:.2}–{most:.2})")
                } else {
                    String::new()
                };
                let verdict = at_most.map_or(String::new(), |at_most| said(ratio, at_most, &format!("{at_most:.2}")));
                Some(format!("{ratio:.2} of {other}{range}{verdict}"))
            }
            Aim::AtMost(name, limit) if name == row.name => {
                let [_, value, _] = spread(&row.values);
                Some(
                    said(value, limit, &Short(limit).to_string())
                        .trim_start_matches(", ")
                        .to_owned(),
                )
            }
            Aim::Times(..) | Aim::AtMost(..) => None,
        }
    }
}

fn said(value: f64, limit: f64, shown: &str) -> String {
    let verdict = if value <= limit { "" } else { ": **missed**" };
    format!(", aim {shown}{verdict}")
}

impl Row {
    fn ratios_to(&self, other: &Self) -> Vec<f64> {
        let pairs = self.values.iter().zip(&other.values);
        pairs.map(|(ours, theirs)| ours / theirs).collect()
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} | median | least | most | compared |", self.title)?;
        writeln!(f, "| --- | --- | --- | --- | --- |")?;
        for row in &self.rows {
            let [least, value, most] = spread(&row.values).map(Short);
            let verdicts = self.aims.iter().filter_map(|aim| self.verdict(row, *aim));
            let compared = verdicts.collect::<Vec<_>>().join("; ");
            writeln!(f, "| {} | {value} | {least} | {most} | {compared} |", row.name)?;
        }
        Ok(())
    }
}

/// A number with as many digits as say something.
struct Short(f64);

impl Display for Short {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let places = match self.0 {
            ..10.0 => 2,
            10.0..100.0 => 1,
            _ => 0,
        };
        write!(f, "{:.places$}", self.0)
    }
}

/// The least, the median and the most.
pub(crate) fn spread(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]]
}
