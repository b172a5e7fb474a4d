//! What was written: reads settings out of the tree and collects every fault on the way.
//!
//! Each getter of [`Raw`] names a key, what is expected of it, and its default; a fault is noted
//! and the default taken, so that reading goes on. The keys that the getters ask for *are* the
//! schema: whatever else stands in a mapping is unknown ([`Raw::close`]). Nothing of this module
//! leaves `config/`, and it must never show the value of a secret.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::checked::Secret;
use super::fault::{Fault, Pos, nearest, shown};
use super::scalar::{self, Bounds, Scalar, Wrong};
use super::secrets::{self, Env};
use super::tree::{Entry, Node, Problem, Value, is_null, join};

/// More faults than anybody reads; the rest are counted.
const FAULTS_MAX: usize = 1000;

/// Where a value stands and what it is called.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub pos: Pos,
    /// As faults show it: `providers.anthropic.timeout`, `models.gpt[0].provider`.
    pub path: String,
    /// The same with `*` and `[]` for what the operator names: `providers.*.timeout`.
    pub schema: String,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Field<'t> {
    pub place: Place,
    pub node: &'t Node,
}

/// A setting that the operator wrote.
#[derive(Debug)]
pub(super) struct Written {
    pub path: String,
    pub schema: String,
    /// Whether it holds a value, not further settings.
    pub leaf: bool,
}

/// A mapping that is being read.
#[derive(Debug)]
pub(super) struct Map<'t> {
    pub place: Place,
    entries: Vec<&'t Entry>,
    asked: Vec<&'static str>,
    /// Could not be read, and has its fault: nothing is to be concluded from what is missing.
    pub broken: bool,
}

/// The reading of one configuration.
pub(super) struct Raw<'a> {
    file: &'a str,
    pub env: Env<'a>,
    faults: Vec<Fault>,
    faults_left_out: usize,
    pub warnings: Vec<String>,
    pub written: Vec<Written>,
    /// Every key that was asked for, written or not, by schema path.
    pub known: BTreeSet<String>,
}

impl<'a> Raw<'a> {
    pub fn new(file: &'a str, env: Env<'a>) -> Self {
        Self {
            file,
            env,
            faults: Vec::new(),
            faults_left_out: 0,
            warnings: Vec::new(),
            written: Vec::new(),
            known: BTreeSet::new(),
        }
    }

    /// Notes a fault.
    pub fn fault(&mut self, place: &Place, wrong: Wrong, expected: impl Into<String>) {
        if self.faults.len() >= FAULTS_MAX {
            self.faults_left_out += 1;
            return;
        }
        self.faults.push(Fault {
            file: self.file.to_owned(),
            line: place.pos.line,
            column: place.pos.column,
            key: place.path.clone(),
            message: wrong.message,
            expected: expected.into(),
            suggestion: wrong.suggestion,
        });
    }

    /// Notes what the parser found.
    pub fn problem(&mut self, problem: Problem) {
        let place = Place {
            pos: problem.pos,
            path: problem.path,
            schema: String::new(),
        };
        self.fault(&place, Wrong::new(problem.message), problem.expected);
    }

    /// Whether no fault was noted so far.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// Every fault, by position.
    pub fn into_faults(mut self) -> Vec<Fault> {
        self.faults.sort_by(|a, b| {
            let key = |fault: &Fault| (fault.line, fault.column);
            key(a).cmp(&key(b)).then_with(|| a.key.cmp(&b.key))
        });
        self.faults.dedup();
        if self.faults_left_out > 0
            && let Some(last) = self.faults.last_mut()
        {
            let more = self.faults_left_out;
            last.message = format!("{} (and {more} faults more in the file)", last.message);
        }
        self.faults
    }

    /// The mapping at the top of the file.
    pub fn root<'t>(&mut self, node: Option<&'t Node>) -> Map<'t> {
        let place = Place {
            pos: Pos::START,
            path: String::new(),
            schema: String::new(),
        };
        match node {
            None => Map::empty(place),
            Some(node) => self.open(Field { place, node }),
        }
    }

    /// Opens a mapping; nothing written counts as an empty one. Keys given twice are faults.
    pub fn open<'t>(&mut self, field: Field<'t>) -> Map<'t> {
        let Field { place, node } = field;
        let entries = match &node.value {
            Value::Map(entries) => entries,
            Value::Scalar { text, plain } if *plain && is_null(text) => return Map::empty(place),
            Value::Broken => return Map::broken(place),
            value => {
                let wrong = Wrong::new(format!("holds {}", kind_of(value)));
                self.fault(&place, wrong, "settings as `key: value`");
                return Map::broken(place);
            }
        };
        let mut first: HashMap<&str, u32> = HashMap::new();
        let mut kept = Vec::with_capacity(entries.len());
        for entry in entries {
            if let Some(line) = first.get(entry.key.as_str()) {
                let place = place.below(&entry.key, "", entry.pos);
                let wrong = Wrong::new(format!("is given twice, the first time in line {line}"));
                self.fault(&place, wrong, "it once");
            } else {
                first.insert(&entry.key, entry.pos.line);
                kept.push(entry);
            }
        }
        Map {
            place,
            entries: kept,
            asked: Vec::new(),
            broken: false,
        }
    }

    /// Reports every key of `map` that nobody asked for.
    pub fn close(&mut self, map: Map<'_>) {
        for entry in &map.entries {
            if map.asked.contains(&entry.key.as_str()) {
                continue;
            }
            let place = map.place.below(&entry.key, "", entry.pos);
            if entry.key == "<<" {
                let wrong = Wrong::new("merge keys are not read");
                self.fault(&place, wrong, "the settings themselves");
                continue;
            }
            let mut wrong = Wrong::new("is not a key that is known here");
            wrong.suggestion =
                nearest(&entry.key, map.asked.iter().copied()).map(|key| format!("`{key}`"));
            let expected = format!("one of {}", map.asked.join(", "));
            self.fault(&place, wrong, expected);
        }
    }

    /// The value of `key`, if it was written.
    pub fn field<'t>(&mut self, map: &mut Map<'t>, key: &'static str) -> Option<Field<'t>> {
        map.asked.push(key);
        self.known.insert(join(&map.place.schema, key));
        let entry = map.entries.iter().find(|entry| entry.key == key)?;
        let place = map.place.below(key, key, entry.pos);
        Some(self.wrote(place, &entry.node))
    }

    fn wrote<'t>(&mut self, place: Place, node: &'t Node) -> Field<'t> {
        self.written.push(Written {
            path: place.path.clone(),
            schema: place.schema.clone(),
            leaf: !matches!(&node.value, Value::Map(entries) if !entries.is_empty()),
        });
        Field { place, node }
    }

    /// Every entry of a mapping whose keys the operator chooses.
    pub fn entries<'t>(&mut self, map: &Map<'t>) -> Vec<(&'t str, Field<'t>)> {
        let entries = map.entries.iter();
        entries
            .map(|entry| {
                let place = map.place.below(&entry.key, "*", entry.pos);
                (entry.key.as_str(), self.wrote(place, &entry.node))
            })
            .collect()
    }

    /// The mapping under `key`, empty if it is not there.
    pub fn map<'t>(&mut self, map: &mut Map<'t>, key: &'static str) -> Map<'t> {
        match self.field(map, key) {
            Some(field) => self.open(field),
            None => Map {
                broken: map.broken,
                ..Map::empty(map.place.below(key, key, map.place.pos))
            },
        }
    }

    /// The items of the list in `field`; `None` (and a fault) if it is no list.
    pub fn items<'t>(&mut self, field: &Field<'t>, expected: &str) -> Option<Vec<Field<'t>>> {
        match &field.node.value {
            Value::List(items) => {
                let items = items.iter().enumerate().map(|(index, node)| {
                    let place = Place {
                        pos: node.pos,
                        path: format!("{}[{index}]", field.place.path),
                        schema: format!("{}[]", field.place.schema),
                    };
                    self.wrote(place, node)
                });
                Some(items.collect())
            }
            Value::Broken => None,
            value => {
                let wrong = Wrong::new(format!("holds {}", kind_of(value)));
                self.fault(&field.place, wrong, expected);
                None
            }
        }
    }

    /// The single value in `field`, with the environment filled in; `None` if it is none, which
    /// has its fault then.
    pub fn scalar(&mut self, field: &Field<'_>, expected: &str) -> Option<Scalar> {
        let (text, plain) = match &field.node.value {
            Value::Scalar { text, plain } => (text, *plain),
            Value::Broken => return None,
            value => {
                let wrong = Wrong::new(format!("holds {}", kind_of(value)));
                self.fault(&field.place, wrong, expected);
                return None;
            }
        };
        match secrets::fill_in(text, self.env) {
            Ok(filled) => Some(Scalar {
                plain: plain || filled.is_some(),
                text: filled.unwrap_or_else(|| text.clone()),
                shown: format!("`{}`", shown(text)),
            }),
            Err(message) => {
                self.fault(&field.place, Wrong::new(message), expected);
                None
            }
        }
    }

    /// Reads the value of `key` with `read`; `None` if it is not there or has a fault.
    pub fn value<T>(
        &mut self,
        map: &mut Map<'_>,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&Scalar) -> Result<T, Wrong>,
    ) -> Option<T> {
        let field = self.field(map, key)?;
        let scalar = self.scalar(&field, expected)?;
        match read(&scalar) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.fault(&field.place, wrong, expected);
                None
            }
        }
    }

    /// A number within `bounds`.
    pub fn number(&mut self, map: &mut Map<'_>, key: &'static str, bounds: Bounds) -> Option<f64> {
        let expected = bounds.expected();
        self.value(map, key, &expected, |scalar| scalar::number(scalar, bounds))
    }

    /// A time in seconds or milliseconds, as `bounds` says.
    pub fn duration(
        &mut self,
        map: &mut Map<'_>,
        key: &'static str,
        default: Duration,
        bounds: Bounds,
    ) -> Duration {
        self.optional_duration(map, key, bounds).unwrap_or(default)
    }

    /// A duration within `bounds`, in their unit, if there is one.
    pub fn optional_duration(
        &mut self,
        map: &mut Map<'_>,
        key: &'static str,
        bounds: Bounds,
    ) -> Option<Duration> {
        self.number(map, key, bounds)
            .map(|value| match bounds.unit {
                scalar::Unit::Milliseconds => Duration::from_millis(value as u64),
                _ => Duration::from_secs_f64(value),
            })
    }

    /// The time that one wait may take, in seconds.
    pub fn timeout(&mut self, map: &mut Map<'_>, key: &'static str, default: Duration) -> Duration {
        self.duration(map, key, default, Bounds::TIMEOUT)
    }

    /// A whole number within `bounds`.
    pub fn count(
        &mut self,
        map: &mut Map<'_>,
        key: &'static str,
        default: usize,
        bounds: Bounds,
    ) -> usize {
        self.number(map, key, bounds)
            .map_or(default, |value| value as usize)
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, map: &mut Map<'_>, key: &'static str, default: bool) -> bool {
        self.boolean_if_written(map, key).unwrap_or(default)
    }

    /// `true` or `false`; `None` if nothing was written.
    pub fn boolean_if_written(&mut self, map: &mut Map<'_>, key: &'static str) -> Option<bool> {
        self.value(map, key, "true or false", scalar::boolean)
    }

    /// One of `names`.
    pub fn choice<T: Copy>(
        &mut self,
        map: &mut Map<'_>,
        key: &'static str,
        names: &[(&str, T)],
    ) -> Option<T> {
        let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        let expected = format!("one of {}", known.join(", "));
        self.value(map, key, &expected, |scalar| scalar::choice(scalar, names))
    }

    /// A text and its place; `None` if nothing was written.
    pub fn text(
        &mut self,
        map: &mut Map<'_>,
        key: &'static str,
        expected: &str,
    ) -> Option<(String, Place)> {
        let field = self.field(map, key)?;
        let scalar = self.scalar(&field, expected)?;
        let nothing = scalar.plain && is_null(&scalar.text);
        (!nothing).then_some((scalar.text, field.place))
    }

    /// The secret in `field`; `None` if it is empty or has a fault. What was written is not shown.
    pub fn secret(&mut self, field: &Field<'_>) -> Result<Option<Secret>, ()> {
        let expected = "a key, `${ENV}`, `file:/path` or `credential:NAME`";
        let Some(scalar) = self.scalar(field, expected) else {
            return Err(());
        };
        if scalar.plain && is_null(&scalar.text) {
            return Ok(None);
        }
        secrets::resolve(&scalar.text, self.env).map_err(|message| {
            self.fault(&field.place, Wrong::new(message), expected);
        })
    }
}

impl Field<'_> {
    /// Whether it holds settings.
    pub const fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// How many items the list has; `None` if it is no list.
    pub fn list_len(&self) -> Option<usize> {
        match &self.node.value {
            Value::List(items) => Some(items.len()),
            _ => None,
        }
    }
}

impl Place {
    /// The place of a key within this mapping.
    fn below(&self, key: &str, schema: &str, pos: Pos) -> Self {
        Self {
            pos,
            path: join(&self.path, key),
            schema: join(&self.schema, schema),
        }
    }
}

impl<'t> Map<'t> {
    fn empty(place: Place) -> Self {
        Self {
            place,
            entries: Vec::new(),
            asked: Vec::new(),
            broken: false,
        }
    }

    fn broken(place: Place) -> Self {
        Self {
            broken: true,
            ..Self::empty(place)
        }
    }

    /// Where `key` was written.
    pub fn pos_of(&self, key: &str) -> Option<Pos> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(entry.pos)
    }

    /// Whether `key` was written.
    pub fn has(&self, key: &str) -> bool {
        self.pos_of(key).is_some()
    }
}

/// What a value is, without showing it.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Scalar { text, plain } if *plain && is_null(text) => "nothing",
        Value::Scalar { .. } => "a single value",
        Value::List(_) => "a list",
        Value::Map(_) => "settings below it",
        Value::Broken => "something unreadable",
    }
}
