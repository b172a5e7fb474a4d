//! A look at JSON that is already known to be JSON: values as the text they stand in.
//!
//! Translation between dialects moves prompts and images from one body into another, and both
//! write them as JSON strings. So a string is carried as the inside of its literal, escapes and
//! all ([`Lit`]), a number or schema as its text ([`View`]), and neither is decoded, checked again
//! or copied before it is written out. Nothing is built, so a body of 30 MB costs no memory
//! beside itself.
//!
//! A [`View`] of text that is no JSON never panics and never loops; it ends early.

use std::borrow::Cow;

use super::Walk;

/// A JSON value as the text it stands in, without blanks around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View<'a>(&'a str);

impl<'a> View<'a> {
    /// The value that `text` is, which has been walked before or is made by us.
    pub fn new(text: &'a str) -> Self {
        Self(text.trim_ascii())
    }

    /// The text.
    pub const fn text(self) -> &'a str {
        self.0
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// Whether it is a string.
    pub fn is_string(self) -> bool {
        self.0.starts_with('"')
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.0.starts_with('{')
    }

    /// Whether it is a list.
    pub fn is_array(self) -> bool {
        self.0.starts_with('[')
    }

    /// `true` or `false`.
    pub fn bool(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// A whole number from 0 up, `1.0` and `1e3` among them as in any JSON reader.
    pub fn u64(self) -> Option<u64> {
        if let Ok(number) = self.0.parse() {
            return Some(number);
        }
        let number = self.f64()?;
        // Beyond 2^53 a float names no single whole number.
        let whole = number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number);
        whole.then_some(number as u64)
    }

    /// A number.
    pub fn f64(self) -> Option<f64> {
        let numeric = self.0.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        numeric
            .then(|| self.0.parse().ok())
            .flatten()
            .filter(|number: &f64| number.is_finite())
    }

    /// The inside of a string.
    pub fn lit(self) -> Option<Lit<'a>> {
        let inside = self.0.strip_prefix('"')?.strip_suffix('"')?;
        Some(Lit(Cow::Borrowed(inside)))
    }

    /// A string, unescaped.
    pub fn string(self) -> Option<Cow<'a, str>> {
        Some(self.lit()?.unescape())
    }

    /// Whether it is this string.
    pub fn is(self, text: &str) -> bool {
        self.string().is_some_and(|it| it == text)
    }

    /// The members of an object, in order, with repeated keys as often as they stand there; none
    /// for anything else.
    pub fn members(self) -> Members<'a> {
        Members(Inside::new(self.0, b'{'))
    }

    /// The items of a list; none for anything else.
    pub fn items(self) -> Items<'a> {
        Items(Inside::new(self.0, b'['))
    }

    /// The last member of that name; `null` counts as not there. For objects of few members: each
    /// call walks the object.
    pub fn get(self, key: &str) -> Option<View<'a>> {
        self.members()
            .filter(|(name, _)| name == key)
            .last()
            .map(|(_, value)| value)
            .filter(|value| !value.is_null())
    }
}

/// The inside of a JSON string literal: escaped, without its quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lit<'a>(Cow<'a, str>);

impl<'a> Lit<'a> {
    /// `text` with what JSON wants escaped.
    pub fn of(text: &'a str) -> Self {
        let needs = |byte: u8| byte == b'"' || byte == b'\\' || byte < 0x20;
        if !text.bytes().any(needs) {
            return Self(Cow::Borrowed(text));
        }
        let mut quoted = serde_json::Value::from(text).to_string();
        quoted.pop();
        quoted.remove(0);
        Self(Cow::Owned(quoted))
    }

    /// Text that is escaped already.
    pub fn escaped(text: impl Into<Cow<'a, str>>) -> Self {
        Self(text.into())
    }

    /// The text as it stands between the quotes.
    pub fn as_escaped(&self) -> &str {
        &self.0
    }

    /// What it says. A lone surrogate, which no Rust string can hold, becomes U+FFFD.
    pub fn unescape(&self) -> Cow<'a, str> {
        if !self.0.contains('\\') {
            return self.0.clone();
        }
        Cow::Owned(unescaped(&self.0))
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it says nothing but blanks.
    pub fn is_blank(&self) -> bool {
        // Long texts are told by their first character.
        self.0.trim_ascii_start().is_empty()
            || self.0.len() < 256 && self.unescape().trim().is_empty()
    }

    /// The rest behind `prefix`, compared as what they say; `prefix` is ASCII. For a `data:` URL,
    /// whose slashes may be escaped while its megabytes are to stay where they are.
    pub fn strip_prefix(&self, prefix: &str) -> Option<Self> {
        let mut at = 0;
        for wanted in prefix.bytes() {
            let (found, length) = ascii_at(&self.0, at)?;
            if found != wanted {
                return None;
            }
            at += length;
        }
        Some(self.from(at))
    }

    /// Splits at the first `mark`, an ASCII character that is looked for in what it says, within
    /// the first `most` bytes.
    pub fn split_once(&self, mark: u8, most: usize) -> Option<(Self, Self)> {
        let mut at = 0;
        while at < most.min(self.0.len()) {
            match ascii_at(&self.0, at) {
                Some((found, length)) if found == mark => {
                    return Some((self.to(at), self.from(at + length)));
                }
                Some((_, length)) => at += length,
                None => at += self.0[at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        None
    }

    fn to(&self, end: usize) -> Self {
        Self(match &self.0 {
            Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
            Cow::Owned(text) => Cow::Owned(text[..end].to_owned()),
        })
    }

    fn from(&self, start: usize) -> Self {
        Self(match &self.0 {
            Cow::Borrowed(text) => Cow::Borrowed(&text[start..]),
            Cow::Owned(text) => Cow::Owned(text[start..].to_owned()),
        })
    }

    /// One that borrows from this one.
    pub fn borrow(&self) -> Lit<'_> {
        Lit(Cow::Borrowed(&self.0))
    }

    /// Puts `more` behind it. Halves of a surrogate pair come together again.
    pub fn push(&mut self, more: &Lit<'_>) {
        self.0.to_mut().push_str(&more.0);
    }

    /// One that borrows from nothing.
    pub fn into_owned(self) -> Lit<'static> {
        Lit(Cow::Owned(self.0.into_owned()))
    }
}

/// The ASCII character at byte `at` of an escaped text and how many bytes it takes there; `None`
/// at the end, within anything but ASCII, and for an escape that is none.
fn ascii_at(text: &str, at: usize) -> Option<(u8, usize)> {
    let rest = text.as_bytes().get(at..)?;
    match rest {
        [b'\\', b'u', digits @ ..] => {
            let digits = str::from_utf8(digits.get(..4)?).ok()?;
            let code = u8::try_from(u16::from_str_radix(digits, 16).ok()?).ok()?;
            code.is_ascii().then_some((code, 6))
        }
        [b'\\', escaped, ..] if escaped.is_ascii() => {
            let byte = match escaped {
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                byte => *byte,
            };
            Some((byte, 2))
        }
        [byte, ..] if byte.is_ascii() => Some((*byte, 1)),
        _ => None,
    }
}

fn unescaped(text: &str) -> String {
    let quoted = format!("\"{text}\"");
    if let Ok(string) = serde_json::from_str(&quoted) {
        return string;
    }
    // Lone surrogates, or no JSON at all: as much as can be had.
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(character) = text[at..].chars().next() {
        if character != '\\' {
            out.push(character);
            at += character.len_utf8();
            continue;
        }
        let escape = text.get(at..at + 6).filter(|it| it.starts_with("\\u"));
        let code = escape.and_then(|it| u32::from_str_radix(&it[2..], 16).ok());
        let pair = code.and_then(|high| {
            let next = text.get(at + 6..at + 12)?.strip_prefix("\\u")?;
            let low = u32::from_str_radix(next, 16).ok()?;
            let is_pair = (0xD800..0xDC00).contains(&high) && (0xDC00..0xE000).contains(&low);
            is_pair.then(|| 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
        });
        match (pair.and_then(char::from_u32), code, ascii_at(text, at)) {
            (Some(character), _, _) => {
                out.push(character);
                at += 12;
            }
            (None, Some(code), _) => {
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                at += 6;
            }
            (None, None, Some((byte, length))) => {
                out.push(char::from(byte));
                at += length;
            }
            (None, None, None) => {
                out.push(char::REPLACEMENT_CHARACTER);
                at += 1;
            }
        }
    }
    out
}

/// See [`View::members`].
#[derive(Clone)]
pub struct Members<'a>(Inside<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, View<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.separate(b'}')?;
        let start = self.0.walk.at;
        let end = self.0.walk.key().ok()?;
        let key = View(self.0.text.get(start..end)?).string()?;
        Some((key, self.0.value()?))
    }
}

/// See [`View::items`].
#[derive(Clone)]
pub struct Items<'a>(Inside<'a>);

impl<'a> Iterator for Items<'a> {
    type Item = View<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.separate(b']')?;
        self.0.value()
    }
}

/// The way through a container.
#[derive(Clone)]
struct Inside<'a> {
    text: &'a str,
    walk: Walk<'a>,
    is_first: bool,
    is_over: bool,
}

impl<'a> Inside<'a> {
    fn new(text: &'a str, open: u8) -> Self {
        Self {
            text,
            is_over: text.as_bytes().first() != Some(&open),
            walk: Walk {
                at: 1,
                ..Walk::new(text)
            },
            is_first: true,
        }
    }

    /// Goes to the next element, or to the end.
    fn separate(&mut self, close: u8) -> Option<()> {
        if self.is_over {
            return None;
        }
        self.walk.blanks();
        match self.walk.peek() {
            Some(byte) if byte == close => self.is_over = true,
            Some(b',') if !self.is_first => self.walk.at += 1,
            Some(_) if self.is_first => {}
            _ => self.is_over = true,
        }
        if self.is_over {
            return None;
        }
        self.is_first = false;
        self.walk.blanks();
        Some(())
    }

    fn value(&mut self) -> Option<View<'a>> {
        let start = self.walk.at;
        let end = self.walk.value().ok().map(|()| self.walk.at);
        let value = end.and_then(|end| self.text.get(start..end));
        self.is_over |= value.is_none();
        value.map(View)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn a_value_is_seen_as_what_it_is() {
        let view = View::new(r#" {"a" : "x\n", "b":[1, {"c":null}, 2.0] ,"a":-1.5, "n":null} "#);
        let members: Vec<_> = view
            .members()
            .map(|(key, value)| (key.into_owned(), value.text()))
            .collect();
        let expected = [
            ("a", r#""x\n""#),
            ("b", r#"[1, {"c":null}, 2.0]"#),
            ("a", "-1.5"),
            ("n", "null"),
        ];
        assert_eq!(
            members,
            expected.map(|(key, value)| (key.to_owned(), value))
        );
        let items: Vec<_> = view.get("b").unwrap().items().map(View::text).collect();
        assert_eq!(items, ["1", r#"{"c":null}"#, "2.0"]);
        assert_eq!(
            view.get("b").unwrap().items().nth(2).unwrap().u64(),
            Some(2)
        );
        assert_eq!(view.get("a").unwrap().f64(), Some(-1.5));
        assert_eq!(view.get("n"), None);
    }

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        for (text, expected) in [
            ("7", Some(7)),
            ("7.0", Some(7)),
            ("1e3", Some(1000)),
            ("18446744073709551615", Some(u64::MAX)),
            ("-1", None),
            ("1.5", None),
            ("\"7\"", None),
            ("null", None),
        ] {
            assert_eq!(View::new(text).u64(), expected, "{text}");
        }
    }

    #[test]
    fn a_data_url_is_taken_apart_where_it_stands() {
        let check = |literal: &str| {
            let lit = View::new(literal).lit().unwrap();
            let rest = lit.strip_prefix("data:").unwrap();
            let (kind, data) = rest.split_once(b',', 100).unwrap();
            assert_eq!(kind.unescape(), "image/png;base64");
            assert_eq!(data.unescape(), "iVB/Rw==");
        };
        check(r#""data:image/png;base64,iVB/Rw==""#);
        check(r#""data:image\/png;base64,iVB\/Rw==""#);
        check(r#""d\u0061ta:image\u002fpng;base64\u002ciVB/Rw==""#);
        assert_eq!(
            Lit::of("é,").split_once(b',', 10).unwrap().0.unescape(),
            "é"
        );
        assert_eq!(Lit::of("https://x").strip_prefix("data:"), None);
    }

    #[test]
    fn a_lone_surrogate_is_no_panic() {
        assert_eq!(Lit::escaped(r"a\ud800b\n").unescape(), "a\u{fffd}b\n");
        assert_eq!(Lit::escaped(r"\ud83d\ude00\udc00").unescape(), "😀\u{fffd}");
        assert_eq!(Lit::escaped(r"\q\u12").unescape(), "q\u{fffd}u12");
    }

    fn model(view: View<'_>) -> Value {
        if view.is_object() {
            Value::Object(
                view.members()
                    .map(|(key, value)| (key.into_owned(), model(value)))
                    .collect(),
            )
        } else if view.is_array() {
            Value::Array(view.items().map(model).collect())
        } else {
            serde_json::from_str(view.text()).unwrap()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_view_shows_what_a_reader_builds(
            keys in prop::collection::vec(".{0,8}", 0..4), text in ".{0,20}", number in any::<i64>(), blanks in "[ \n\t]{0,3}"
        ) {
            let inner: serde_json::Map<String, Value> =
                keys.iter().map(|key| (key.clone(), Value::from(text.clone()))).collect();
            let value = serde_json::json!({"a": [number, inner, null, true], "b": text, "c": {}, "d": []});
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(&model(View::new(&format!("{blanks}{pretty}{blanks}"))), &value);
            prop_assert_eq!(&model(View::new(&value.to_string())), &value);
            prop_assert_eq!(Lit::of(&text).unescape(), text.as_str());
        }

        #[test]
        fn any_text_is_looked_at(text in "[\\[\\]{}\",:a-c0-9\\\\u .\u{e9}-]{0,40}") {
            let view = View::new(&text);
            for (_, value) in view.members() {
                value.items().count();
            }
            for item in view.items() {
                item.members().count();
                item.lit().map(|lit| lit.unescape().len());
            }
            let lit = Lit::escaped(text.as_str());
            lit.unescape();
            lit.split_once(b',', 100);
            lit.strip_prefix("a");
        }
    }
}
