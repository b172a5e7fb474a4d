//! The language that the tables of `strict` are written in, and what checks a value against them.
//! Pure. Start at [`check`].
//!
//! A table says what a value must be; a [`Finding`] says where the first value is that is not, and
//! why. How a vendor words that is the business of [`Finding`]'s renderings in `wording`.

use std::borrow::Cow;

use serde_json::Value;

/// What a value must be.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Anything.
    Any,
    Bool,
    Text,
    /// A whole number within bounds.
    Integer(i64, i64),
    /// A number within bounds.
    Number(f64, f64),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// An object with whatever keys.
    Map,
    /// A list.
    List(&'static Kind),
    /// A list that is not empty.
    Items(&'static Kind),
    /// An object with these fields and no other.
    Object(&'static [Field]),
    /// An object whose fields depend on what the string in the field named says.
    Tagged(&'static str, Variants),
    /// Whichever of these has the value's JSON type.
    Either(&'static [Kind]),
    /// What the function says it must be.
    Chosen(fn(&Value) -> Result<Kind, Finding>),
    /// The kind, and what the function says.
    Where(&'static Kind, fn(&Value) -> Result<(), Finding>),
}

/// The fields of each kind of a tagged object.
pub type Variants = &'static [(&'static str, &'static [Field])];

/// A whole number that is at least one.
pub const POSITIVE: Kind = Kind::Integer(1, i64::MAX);
/// Any whole number.
pub const INTEGER: Kind = Kind::Integer(i64::MIN, i64::MAX);

/// A field of an object.
#[derive(Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    kind: Kind,
    is_required: bool,
    is_nullable: bool,
}

/// A field that must be there.
pub const fn must(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        is_required: true,
        is_nullable: false,
    }
}

/// A field that may be there.
pub const fn may(name: &'static str, kind: Kind) -> Field {
    Field {
        is_required: false,
        ..must(name, kind)
    }
}

/// A field that may be there, or null.
pub const fn null(name: &'static str, kind: Kind) -> Field {
    Field {
        is_nullable: true,
        ..may(name, kind)
    }
}

/// A step of the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Name(String),
    Index(usize),
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Wrong {
    /// It is not there.
    Missing,
    /// There should be no such field.
    Unknown,
    /// It is of another JSON type.
    Type {
        expected: Cow<'static, str>,
        got: &'static str,
    },
    /// It is below the least that is allowed.
    Below {
        limit: String,
        got: String,
        is_integer: bool,
    },
    /// It is above the most that is allowed.
    Above {
        limit: String,
        got: String,
        is_integer: bool,
    },
    /// It is none of the strings that are allowed.
    NotOneOf {
        allowed: Vec<&'static str>,
        got: String,
    },
    /// The list is empty.
    Empty,
    /// Another rule, in the vendor's words.
    Rule(Cow<'static, str>),
}

/// The first thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// From the inside out.
    path: Vec<Key>,
    pub wrong: Wrong,
}

impl Finding {
    /// Something wrong with the value itself.
    pub fn new(wrong: Wrong) -> Self {
        Self {
            path: Vec::new(),
            wrong,
        }
    }

    /// A rule that is broken, in the vendor's words.
    pub fn rule(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Wrong::Rule(text.into()))
    }

    /// The same, found inside the field of that name.
    pub fn within(mut self, name: &str) -> Self {
        self.path.push(Key::Name(name.to_owned()));
        self
    }

    /// The same, found in that item of a list.
    pub fn at(mut self, index: usize) -> Self {
        self.path.push(Key::Index(index));
        self
    }

    /// The way to the value, from the outside in.
    pub fn path(&self) -> impl Iterator<Item = &Key> {
        self.path.iter().rev()
    }
}

/// The name of a value's JSON type.
fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

impl Kind {
    fn expected(&self) -> Cow<'static, str> {
        match self {
            Self::Any | Self::Chosen(_) => "a value".into(),
            Self::Bool => "a boolean".into(),
            Self::Text | Self::OneOf(_) => "a string".into(),
            Self::Integer(..) => "an integer".into(),
            Self::Number(..) => "a decimal".into(),
            Self::Map | Self::Object(_) | Self::Tagged(..) => "an object".into(),
            Self::List(_) | Self::Items(_) => "an array".into(),
            Self::Where(kind, _) => kind.expected(),
            Self::Either(kinds) => {
                let kinds: Vec<_> = kinds.iter().map(Self::expected).collect();
                format!("one of {}", kinds.join(" or ")).into()
            }
        }
    }

    /// Whether the value has the JSON type for this.
    fn fits(&self, value: &Value) -> bool {
        match self {
            Self::Any | Self::Chosen(_) => true,
            Self::Bool => value.is_boolean(),
            Self::Text | Self::OneOf(_) => value.is_string(),
            Self::Integer(..) => value.is_i64() || value.is_u64(),
            Self::Number(..) => value.is_number(),
            Self::Map | Self::Object(_) | Self::Tagged(..) => value.is_object(),
            Self::List(_) | Self::Items(_) => value.is_array(),
            Self::Where(kind, _) => kind.fits(value),
            Self::Either(kinds) => kinds.iter().any(|kind| kind.fits(value)),
        }
    }
}

/// Checks a value.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check(value: &Value, kind: &Kind) -> Result<(), Finding> {
    if !kind.fits(value) {
        let (expected, got) = (kind.expected(), json_type(value));
        return Err(Finding::new(Wrong::Type { expected, got }));
    }
    match kind {
        Kind::Any | Kind::Bool | Kind::Text | Kind::Map => Ok(()),
        Kind::Integer(least, most) => {
            // What is beyond 64 bits is beyond every bound.
            let number = value.as_i64().unwrap_or(i64::MAX);
            bounds(number, *least, *most, true)
        }
        Kind::Number(least, most) => bounds(value.as_f64().unwrap_or(0.0), *least, *most, false),
        Kind::OneOf(allowed) => one_of(value, allowed),
        Kind::List(item) => items(value, item),
        Kind::Items(item) => match value.as_array() {
            Some(list) if list.is_empty() => Err(Finding::new(Wrong::Empty)),
            _ => items(value, item),
        },
        Kind::Object(list) => fields(value, list),
        Kind::Tagged(tag, variants) => fields(value, tagged(value, tag, variants)?),
        Kind::Either(kinds) => {
            let own = kinds.iter().find(|kind| kind.fits(value));
            own.map_or(Ok(()), |kind| check(value, kind))
        }
        Kind::Chosen(choose) => check(value, &choose(value)?),
        Kind::Where(kind, rule) => check(value, kind).and_then(|()| rule(value)),
    }
}

fn bounds<N: PartialOrd + ToString>(
    number: N,
    least: N,
    most: N,
    is_integer: bool,
) -> Result<(), Finding> {
    let got = number.to_string();
    let wrong = if number < least {
        Wrong::Below {
            limit: least.to_string(),
            got,
            is_integer,
        }
    } else if number > most {
        Wrong::Above {
            limit: most.to_string(),
            got,
            is_integer,
        }
    } else {
        return Ok(());
    };
    Err(Finding::new(wrong))
}

fn one_of(value: &Value, allowed: &[&'static str]) -> Result<(), Finding> {
    let got = value.as_str().unwrap_or_default();
    if allowed.contains(&got) {
        return Ok(());
    }
    Err(Finding::new(Wrong::NotOneOf {
        allowed: allowed.to_vec(),
        got: got.chars().take(64).collect(),
    }))
}

fn items(value: &Value, kind: &Kind) -> Result<(), Finding> {
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(item, kind).map_err(|finding| finding.at(index))?;
    }
    Ok(())
}

/// The fields of a tagged object.
pub fn tagged(value: &Value, tag: &str, variants: Variants) -> Result<&'static [Field], Finding> {
    let wrong = match value.get(tag) {
        None => Wrong::Missing,
        Some(Value::String(name)) => {
            let found = variants.iter().find(|(own, _)| own == name);
            match found {
                Some((_, fields)) => return Ok(fields),
                None => Wrong::NotOneOf {
                    allowed: variants.iter().map(|(own, _)| *own).collect(),
                    got: name.chars().take(64).collect(),
                },
            }
        }
        Some(other) => Wrong::Type {
            expected: "a string".into(),
            got: json_type(other),
        },
    };
    Err(Finding::new(wrong).within(tag))
}

fn fields(value: &Value, list: &[Field]) -> Result<(), Finding> {
    let Some(object) = value.as_object() else {
        return Ok(());
    };
    for field in list {
        let checked = match object.get(field.name) {
            None if field.is_required => Err(Finding::new(Wrong::Missing)),
            None => Ok(()),
            Some(Value::Null) if field.is_nullable => Ok(()),
            Some(value) => check(value, &field.kind),
        };
        checked.map_err(|finding| finding.within(field.name))?;
    }
    let unknown = object
        .keys()
        .find(|key| list.iter().all(|field| field.name != **key));
    if let Some(key) = unknown {
        let key: String = key.chars().take(64).collect();
        return Err(Finding::new(Wrong::Unknown).within(&key));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const POINT: &[Field] = &[
        must("x", INTEGER),
        may("y", Kind::Number(0.0, 1.0)),
        null("z", Kind::Text),
    ];
    const SHAPE: Kind = Kind::Tagged(
        "type",
        &[
            (
                "point",
                &[must("type", Kind::Text), may("at", Kind::Object(POINT))],
            ),
            ("none", &[must("type", Kind::Text)]),
        ],
    );

    fn path(finding: &Finding) -> String {
        let keys = finding.path().map(|key| match key {
            Key::Name(name) => name.clone(),
            Key::Index(index) => index.to_string(),
        });
        keys.collect::<Vec<_>>().join(".")
    }

    #[test]
    fn the_first_fault_is_found_with_its_path() {
        let wrong = |value: Value, expected: &str| {
            let kind = Kind::Items(&SHAPE);
            let found = check(&value, &kind).map_err(|finding| path(&finding));
            assert_eq!(found, Err(expected.to_owned()), "{value}");
        };
        wrong(json!([]), "");
        wrong(json!({}), "");
        wrong(json!([{}]), "0.type");
        wrong(json!([{"type": 3}]), "0.type");
        wrong(json!([{"type": "none"}, {"type": "line"}]), "1.type");
        wrong(json!([{"type": "none", "at": {}}]), "0.at");
        wrong(json!([{"type": "point", "at": {"x": 1.5}}]), "0.at.x");
        wrong(json!([{"type": "point", "at": {"y": 0}}]), "0.at.x");
        wrong(json!([{"type": "point", "at": {"x": 1, "y": 2}}]), "0.at.y");
        wrong(json!([{"type": "point", "at": {"x": null}}]), "0.at.x");
    }

    #[test]
    fn what_is_right_passes() {
        let right = |value: Value| assert_eq!(check(&value, &SHAPE), Ok(()), "{value}");
        right(json!({"type": "none"}));
        right(json!({"type": "point", "at": {"x": -1, "y": 1, "z": null}}));
        right(json!({"type": "point", "at": {"x": 9_007_199_254_740_993_i64, "y": 0.5, "z": "a"}}));
    }
}
