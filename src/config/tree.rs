//! The text as a tree in which every key and value knows its line and column.
//!
//! YAML is read through the marked events of `saphyr-parser`, without recursion and with bounds
//! on size and depth. Configuration needs little of YAML, so what would hide a fault is refused
//! by name: anchors and aliases, tags, a second document, keys that are not text. A syntax error
//! does not end the reading: the blocks that are well formed are still read (`recover`), so
//! that one run names every fault. Start reading at [`parse`].

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

use super::fault::{Pos, shown};
use super::recover::recover;

/// The largest text that is read, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 1 << 20;
/// How deep lists and mappings may be nested.
pub(super) const DEPTH_MAX: usize = 64;
/// How many items a list or mapping may have.
const ITEMS_MAX: usize = 10_000;
/// How many problems are kept: more than anybody reads, and each has a path of its own.
pub(super) const PROBLEMS_MAX: usize = 1000;

/// A value and where it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub pos: Pos,
    pub value: Value,
}

/// What was written.
#[derive(Debug)]
pub(super) enum Value {
    Scalar {
        text: String,
        /// Without quotes, so that it may be a number, a boolean or nothing.
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Something that could not be read and has its problem already; it is left alone.
    Broken,
}

/// One `key: value`, at the key's position.
#[derive(Debug)]
pub(super) struct Entry {
    pub key: String,
    pub pos: Pos,
    pub node: Node,
}

/// What is wrong with the text as YAML.
#[derive(Debug)]
pub(super) struct Problem {
    pub pos: Pos,
    pub path: String,
    pub message: String,
    pub expected: &'static str,
}

/// The tree, as far as it could be read, and what stood in the way.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// `None`: nothing but comments, or nothing readable.
    pub root: Option<Node>,
    pub problems: Vec<Problem>,
}

/// Reads `text`, which is at most [`TEXT_BYTES_MAX`] long.
pub(super) fn parse(text: &str) -> Parsed {
    match build(text, 0, "") {
        Ok(parsed) => parsed,
        Err(problem) => {
            let (entries, mut problems) = recover(text);
            if problems.is_empty() {
                problems.push(problem);
            }
            let pos = entries.first().map(|entry| entry.pos);
            Parsed {
                root: pos.map(|pos| Node {
                    pos,
                    value: Value::Map(entries),
                }),
                problems,
            }
        }
    }
}

/// `parent.key`, or the key alone at the top.
pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() {
        shown(key)
    } else {
        format!("{parent}.{}", shown(key))
    }
}

/// A list or mapping whose end has not come yet.
enum Open {
    List(Pos, Vec<Node>),
    /// With the key that waits for its value; an unreadable key (`None`) takes its value with it.
    Map(Pos, Vec<Entry>, Option<(Option<String>, Pos)>),
}

struct Builder<'a> {
    stack: Vec<Open>,
    root: Option<Node>,
    problems: Vec<Problem>,
    lines_before: u32,
    path: &'a str,
}

/// Reads a whole text, or a block of one that `lines_before` lines precede and that stands under
/// `path`. The error is the first one of syntax, after which the events make no sense.
pub(super) fn build(text: &str, lines_before: u32, path: &str) -> Result<Parsed, Problem> {
    let mut builder = Builder {
        stack: Vec::new(),
        root: None,
        problems: Vec::new(),
        lines_before,
        path,
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| builder.syntax(&error, text))?;
        let pos = builder.pos(span.start);
        builder.check_length(pos)?;
        if !builder.event(event, pos)? {
            break;
        }
    }
    Ok(Parsed {
        root: builder.root,
        problems: builder.problems,
    })
}

impl Builder<'_> {
    fn pos(&self, marker: Marker) -> Pos {
        let line = u32::try_from(marker.line().max(1)).unwrap_or(u32::MAX);
        Pos {
            line: line.saturating_add(self.lines_before),
            column: u32::try_from(marker.col() + 1).unwrap_or(u32::MAX),
        }
    }

    /// A syntax error. One at the end of the text is that something was never closed: it is
    /// reported where that begins.
    fn syntax(&self, error: &ScanError, text: &str) -> Problem {
        let at_end = error.marker().index() >= text.trim_end().chars().count();
        let open = self.stack.last().filter(|_| at_end);
        let info = error.info().replace(char::is_control, " ");
        let (pos, message) = match open {
            Some(Open::List(pos, _) | Open::Map(pos, ..)) => {
                (*pos, format!("is not closed before the text ends: {info}"))
            }
            None => {
                let pos = self.pos(*error.marker());
                (pos, format!("is not valid YAML here: {info}"))
            }
        };
        Problem {
            pos,
            path: self.path(),
            message,
            expected: "`key: value`, each level indented by spaces",
        }
    }

    /// The path of what is being read.
    fn path(&self) -> String {
        let mut path = self.path.to_owned();
        for open in &self.stack {
            match open {
                Open::List(_, items) => path.push_str(&format!("[{}]", items.len())),
                Open::Map(_, _, Some((Some(key), _))) => path = join(&path, key),
                Open::Map(..) => {}
            }
        }
        path
    }

    fn problem(&mut self, pos: Pos, message: &str, expected: &'static str) {
        if self.problems.len() >= PROBLEMS_MAX {
            return;
        }
        let path = self.path();
        self.problems.push(Problem {
            pos,
            path,
            message: message.to_owned(),
            expected,
        });
    }

    /// Takes one event; `false` when nothing after it is to be read.
    fn event(&mut self, event: Event<'_>, pos: Pos) -> Result<bool, Problem> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                let expected = "one document in the file";
                self.problem(pos, "a second document begins here", expected);
                return Ok(false);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let text = text.into_owned();
                self.refuse_extras(pos, anchor != 0, tag.is_some());
                self.complete(pos, Value::Scalar { text, plain });
            }
            Event::Alias(_) => {
                self.refuse_extras(pos, true, false);
                self.complete(pos, Value::Broken);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(pos, anchor != 0, tag.is_some());
                self.push(Open::List(pos, Vec::new()), pos)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(pos, anchor != 0, tag.is_some());
                self.push(Open::Map(pos, Vec::new(), None), pos)?;
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Open::List(pos, items)) => self.complete(pos, Value::List(items)),
                Some(Open::Map(pos, entries, _)) => self.complete(pos, Value::Map(entries)),
                None => {}
            },
            _ => {}
        }
        Ok(true)
    }

    fn push(&mut self, open: Open, pos: Pos) -> Result<(), Problem> {
        if self.stack.len() == DEPTH_MAX {
            return Err(Problem {
                pos,
                path: String::new(),
                message: format!("is nested deeper than {DEPTH_MAX} levels"),
                expected: "a flatter file",
            });
        }
        self.stack.push(open);
        Ok(())
    }

    fn check_length(&self, pos: Pos) -> Result<(), Problem> {
        let length = match self.stack.last() {
            Some(Open::List(_, items)) => items.len(),
            Some(Open::Map(_, entries, _)) => entries.len(),
            None => 0,
        };
        if length <= ITEMS_MAX {
            return Ok(());
        }
        Err(Problem {
            pos,
            path: String::new(),
            message: format!("has more than {ITEMS_MAX} items"),
            expected: "a shorter list",
        })
    }

    fn refuse_extras(&mut self, pos: Pos, anchor: bool, tag: bool) {
        if anchor {
            let message = "anchors (`&name`) and aliases (`*name`) are not read";
            self.problem(pos, message, "the value itself, or the text in quotes");
        }
        if tag {
            let message = "tags (`!name`) are not read";
            self.problem(
                pos,
                message,
                "the value without a tag, or the text in quotes",
            );
        }
    }

    /// Puts a finished value where it belongs: the file, a list, or a key or value of a mapping.
    fn complete(&mut self, pos: Pos, value: Value) {
        match self.stack.last_mut() {
            None => self.root = Some(Node { pos, value }),
            Some(Open::List(_, items)) => items.push(Node { pos, value }),
            Some(Open::Map(_, entries, slot)) => match slot.take() {
                Some((Some(key), key_pos)) => entries.push(Entry {
                    key,
                    pos: key_pos,
                    node: Node { pos, value },
                }),
                Some((None, _)) => {}
                None => match value {
                    Value::Scalar { text, plain } if !(plain && is_null(&text)) => {
                        *slot = Some((Some(text), pos));
                    }
                    _ => {
                        *slot = Some((None, pos));
                        let message = "the key before the colon is not text";
                        self.problem(pos, message, "a name, in quotes if need be");
                    }
                },
            },
        }
    }
}

/// Whether a plain scalar stands for nothing (YAML 1.2.2, section 10.3.2).
pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(text: &str) -> Vec<(String, u32, u32)> {
        fn walk(node: &Node, path: &str, out: &mut Vec<(String, u32, u32)>) {
            match &node.value {
                Value::Map(entries) => {
                    for entry in entries {
                        let path = join(path, &entry.key);
                        out.push((path.clone(), entry.pos.line, entry.pos.column));
                        walk(&entry.node, &path, out);
                    }
                }
                Value::List(items) => {
                    for (index, item) in items.iter().enumerate() {
                        let path = format!("{path}[{index}]");
                        out.push((path.clone(), item.pos.line, item.pos.column));
                        walk(item, &path, out);
                    }
                }
                _ => {}
            }
        }
        let mut out = Vec::new();
        if let Some(root) = parse(text).root {
            walk(&root, "", &mut out);
        }
        out
    }

    fn problems(text: &str) -> Vec<(u32, u32, String)> {
        let found = parse(text).problems.into_iter();
        found
            .map(|problem| (problem.pos.line, problem.pos.column, problem.path))
            .collect()
    }

    #[test]
    fn every_key_and_item_has_its_place() {
        let at = |path: &str, line, column| (path.to_owned(), line, column);
        let text = "# é\na:\n  b: {c: é, d: 1}\n  e:\n    - f: 2\n    - g\r\n\"h\": ü\n";
        let expected = [
            at("a", 2, 1),
            at("a.b", 3, 3),
            at("a.b.c", 3, 7),
            at("a.b.d", 3, 13),
            at("a.e", 4, 3),
            at("a.e[0]", 5, 7),
            at("a.e[0].f", 5, 7),
            at("a.e[1]", 6, 7),
            at("h", 7, 1),
        ];
        assert_eq!(positions(text), expected);
    }

    #[test]
    fn what_hides_faults_is_refused_at_its_place() {
        fn check(text: &str, line: u32, path: &str) {
            let found = problems(text);
            assert!(
                found.iter().any(|(l, _, p)| *l == line && p == path),
                "{text:?}: {found:?}"
            );
        }
        check("a: &x 1\n", 1, "a");
        check("a: 1\nb: *x\n", 2, "b");
        check("a:\n  b: !!str 1\n", 2, "a.b");
        check("a: 1\n---\nb: 2\n", 2, "");
        check("? [a]\n: 1\n", 1, "");
        check(": 1\n", 1, "");
    }

    #[test]
    fn every_broken_block_is_named_and_the_others_are_read() {
        let text = "---\nserver:\n  listen: 'a\nops: {listen: 1\nproviders:\n  x:\n    k: a: b\n    \
                    l: 1\n  y:\n    m: 2\ncache:\n  n: 3\n";
        let found = problems(text);
        let paths: Vec<&str> = found.iter().map(|(_, _, path)| path.as_str()).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(paths[0].starts_with("server"), "{found:?}");
        assert!(paths[1].starts_with("ops"), "{found:?}");
        assert_eq!((found[2].0, paths[2]), (7, "providers.x.k"));
        let read = positions(text);
        for path in ["providers.x.l", "providers.y.m", "cache.n"] {
            assert!(read.iter().any(|(known, ..)| known == path), "{path}");
        }
    }

    #[test]
    fn what_is_never_closed_is_a_fault() {
        for text in [
            "a: {b",
            "a: [1, 2",
            "a: {b: 1\n",
            "a: 'b",
            "a: \"b\n",
            "a: {",
            "a: [b: {",
        ] {
            assert_eq!(problems(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn depth_is_bounded_however_it_is_written() {
        for text in [
            "[".repeat(200),
            "- ".repeat(200_000),
            "{a: ".repeat(200_000),
            "? ".repeat(100_000),
        ] {
            assert!(!problems(&text).is_empty());
        }
        let fits = format!("a: {}{}", "[".repeat(60), "]".repeat(60));
        assert_eq!(problems(&fits), []);
    }
}
