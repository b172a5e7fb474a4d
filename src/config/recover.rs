//! Reads what can be read of a text with syntax errors.
//!
//! A parser stops at the first error of syntax, and an operator wants to know of all. A block's
//! end can be told from the indentation alone, so the text is cut into its keys and each is
//! parsed by itself; a key that fails is cut again, down to the smallest block that fails. This
//! is only ever done to find more faults: a text that comes here is refused in any case.

use std::ops::Range;

use super::fault::Pos;
use super::tree::{Entry, Node, PROBLEMS_MAX, Problem, Value, build, join};

/// How often a block is cut into smaller ones.
const CUTS_MAX: usize = 8;

/// The keys that could be read, and every error of syntax.
pub(super) fn recover(text: &str) -> (Vec<Entry>, Vec<Problem>) {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut recovery = Recovery {
        lines: &lines,
        problems: Vec::new(),
    };
    let entries = recovery.block(0..lines.len(), "", 0);
    (entries, recovery.problems)
}

struct Recovery<'a> {
    lines: &'a [&'a str],
    problems: Vec<Problem>,
}

impl Recovery<'_> {
    /// Reads the keys of one level in `range`. A key whose block is broken is searched in turn
    /// for the smallest block that is, so that its neighbours are still read.
    fn block(&mut self, range: Range<usize>, path: &str, depth: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        let Some(first) = range.clone().find(|line| has_content(self.lines[*line])) else {
            return entries;
        };
        let indent = indent_of(self.lines[first]);
        let mut heads: Vec<usize> = (first..range.end)
            .filter(|line| indent_of(self.lines[*line]) == indent)
            .filter(|line| key_of(self.lines[*line]).is_some())
            .collect();
        if heads.first() != Some(&first) {
            heads.insert(0, first);
        }
        for (index, head) in heads.iter().copied().enumerate() {
            let end = heads.get(index + 1).copied().unwrap_or(range.end);
            self.chunk(head..end, path, depth, &mut entries);
        }
        entries
    }

    fn push(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    /// Reads one key with all that is indented below it.
    fn chunk(&mut self, range: Range<usize>, path: &str, depth: usize, out: &mut Vec<Entry>) {
        let text = self.lines[range.clone()].concat();
        let lines_before = u32::try_from(range.start).unwrap_or(u32::MAX);
        let mut problem = match build(&text, lines_before, path) {
            Ok(parsed) => {
                parsed
                    .problems
                    .into_iter()
                    .for_each(|found| self.push(found));
                match parsed.root {
                    Some(Node {
                        value: Value::Map(entries),
                        ..
                    }) => return out.extend(entries),
                    None => return,
                    Some(node) => Problem {
                        pos: node.pos,
                        path: path.to_owned(),
                        message: "this line belongs to nothing".to_owned(),
                        expected: "`key: value`",
                    },
                }
            }
            Err(problem) => problem,
        };
        let head = self.lines[range.start];
        let Some(key) = key_of(head) else {
            return self.push(problem);
        };
        if problem.path == path {
            problem.path = join(path, key);
        }
        let pos = Pos {
            line: lines_before + 1,
            column: indent_of(head) as u32 + 1,
        };
        let before = self.problems.len();
        let body = range.start + 1..range.end;
        let deeper = body
            .clone()
            .find(|line| has_content(self.lines[*line]))
            .is_some_and(|line| indent_of(self.lines[line]) > indent_of(head));
        let value = if head_is_bare(head) && deeper && depth < CUTS_MAX {
            Value::Map(self.block(body, &join(path, key), depth + 1))
        } else {
            Value::Broken
        };
        let found = self.problems.len() > before;
        if !found {
            self.push(problem);
        }
        out.push(Entry {
            key: key.to_owned(),
            pos,
            node: Node {
                pos,
                value: if found { value } else { Value::Broken },
            },
        });
    }
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Whether a line holds more than white space, a comment or the mark of a document's beginning.
fn has_content(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#') && line != "---"
}

/// The key that a line begins with.
fn key_of(line: &str) -> Option<&str> {
    let line = line.trim_start_matches(' ');
    let end = line.find(':')?;
    let (key, rest) = (&line[..end], &line[end + 1..]);
    let named = key
        .chars()
        .all(|c| c.is_alphanumeric() || "-_./\"'".contains(c));
    let ended = rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']);
    (named && ended && !key.is_empty()).then(|| key.trim_matches(['"', '\'']))
}

/// Whether nothing but a comment follows the line's key.
fn head_is_bare(line: &str) -> bool {
    line.split_once(':')
        .is_some_and(|(_, rest)| !has_content(rest))
}
