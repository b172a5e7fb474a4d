//! Writes JSON, commas and all, into one buffer.
//!
//! What is written is put together from literals and texts of other bodies, so there is no value
//! to serialise; this only keeps count of commas. Start at [`Writer`].

use super::view::{Lit, View};

/// JSON in the making.
#[derive(Default)]
pub struct Writer {
    out: Vec<u8>,
    /// Whether a comma is due before the next element.
    comma: bool,
}

impl Writer {
    /// A writer with room for about `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(bytes),
            comma: false,
        }
    }

    /// A writer that goes on behind `out`.
    pub const fn behind(out: Vec<u8>) -> Self {
        Self { out, comma: false }
    }

    /// What has been written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// An object with the members that `fill` writes.
    pub fn object(&mut self, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.container(b'{', b'}', fill)
    }

    /// A list with the items that `fill` writes.
    pub fn array(&mut self, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.container(b'[', b']', fill)
    }

    fn container(&mut self, open: u8, close: u8, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.separate();
        self.out.push(open);
        self.comma = false;
        fill(self);
        self.out.push(close);
        self.comma = true;
        self
    }

    /// The key of the next value; of letters and underscores.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.string(key);
        self.out.push(b':');
        self.comma = false;
        self
    }

    /// The key of the next value as the literal that it is somewhere else.
    pub fn raw_key(&mut self, literal: &str) -> &mut Self {
        self.raw(literal);
        self.out.push(b':');
        self.comma = false;
        self
    }

    /// A string of the inside of a literal.
    pub fn lit(&mut self, lit: &Lit<'_>) -> &mut Self {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(lit.as_escaped().as_bytes());
        self.out.push(b'"');
        self
    }

    /// A string.
    pub fn string(&mut self, text: &str) -> &mut Self {
        self.lit(&Lit::of(text))
    }

    /// One string of several literals, one after the other.
    pub fn joined<'l>(&mut self, lits: impl IntoIterator<Item = &'l Lit<'l>>) -> &mut Self {
        self.separate();
        self.out.push(b'"');
        for lit in lits {
            self.out.extend_from_slice(lit.as_escaped().as_bytes());
        }
        self.out.push(b'"');
        self
    }

    /// JSON as a string: a value within a literal.
    pub fn quoted(&mut self, json: &str) -> &mut Self {
        self.string(json)
    }

    /// Any value as it stands somewhere else.
    pub fn view(&mut self, view: View<'_>) -> &mut Self {
        self.raw(view.text())
    }

    /// Any value as text.
    pub fn raw(&mut self, json: &str) -> &mut Self {
        self.separate();
        self.out.extend_from_slice(json.as_bytes());
        self
    }

    /// Any value as text in several pieces, one after the other.
    pub fn raw_parts(&mut self, pieces: &[&str]) -> &mut Self {
        self.separate();
        for piece in pieces {
            self.out.extend_from_slice(piece.as_bytes());
        }
        self
    }

    /// A number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.raw(&number.to_string())
    }

    /// `true` or `false`.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.raw(if value { "true" } else { "false" })
    }

    /// `null`.
    pub fn null(&mut self) -> &mut Self {
        self.raw("null")
    }

    fn separate(&mut self) {
        if self.comma {
            self.out.push(b',');
        }
        self.comma = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_stand_where_they_belong() {
        let mut writer = Writer::default();
        writer.object(|it| {
            it.key("a").array(|it| {
                it.number(1).null().object(|_| {}).array(|_| {}).bool(true);
            });
            it.key("b").string("x\"y\n");
            it.key("c").lit(&Lit::escaped("\\u0041"));
            it.key("d").joined(&[Lit::of("p"), Lit::of("q")]);
            it.key("e").quoted("{\"f\":1}");
            it.key("g").view(View::new(" 1.50 "));
            it.raw_key(r#""\u0068""#).raw_parts(&["[1", ",2]"]);
            it.raw_key("\"i\"").raw("3");
        });
        let expected = r#"{"a":[1,null,{},[],true],"b":"x\"y\n","c":"\u0041","d":"pq","e":"{\"f\":1}","g":1.50,"\u0068":[1,2],"i":3}"#;
        assert_eq!(String::from_utf8(writer.into_bytes()).unwrap(), expected);
    }
}
