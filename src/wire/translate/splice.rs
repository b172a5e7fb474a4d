//! Goes on with an answer that was cut, from another answer to the same question.
//!
//! What has been delivered is remembered, part by part. The second answer is compared with it from
//! its beginning and delivered only from where it goes beyond, and only if it says exactly the same
//! up to there: anything else would be an answer that nobody gave. Tool calls keep the ids that
//! were delivered.
//!
//! Start at [`Splice::event`]; [`Splice::restart`] begins the comparison.

use crate::wire::form::{Delta, Event, PartStart};
use crate::wire::json::view::Lit;

/// Bytes of delivered text that are remembered; a longer answer cannot be gone on with.
const DELIVERED_BYTES_MAX: usize = 4 << 20;

/// The second answer is another one than the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differs;

/// A part that was delivered, as far as it was.
struct Part {
    kind: Kind,
    /// What it says: the text, the thought, the arguments; whole parts that come at once, entire.
    text: String,
    is_whole: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Redacted(String),
    Refusal,
    /// By name.
    ToolCall(String),
}

impl Kind {
    fn of(start: &PartStart<'_>) -> Self {
        match start {
            PartStart::Text => Self::Text,
            PartStart::Thinking => Self::Thinking,
            PartStart::RedactedThinking(data) => Self::Redacted(data.unescape().into_owned()),
            PartStart::Refusal => Self::Refusal,
            PartStart::ToolCall { name, .. } => Self::ToolCall(name.unescape().into_owned()),
        }
    }
}

/// The answer so far, and whether another is being compared with it. Takes the events of one
/// choice whose parts come one after the other and are numbered from 0.
#[derive(Default)]
pub struct Splice {
    parts: Vec<Part>,
    bytes: usize,
    /// The beginning was too long to be remembered.
    is_lost: bool,
    has_started: bool,
    /// Where the comparison stands: a part, and how much of its text was met.
    at: Option<(usize, usize)>,
}

impl Splice {
    /// Whether another answer can go on with this one.
    pub const fn can_restart(&self) -> bool {
        !self.is_lost
    }

    /// From here on the events are those of another answer, from its beginning.
    pub fn restart(&mut self) {
        self.at = Some((0, 0));
    }

    /// Hands on what of `event` was not delivered before.
    ///
    /// # Errors
    /// It is not what was delivered.
    pub fn event<'e>(&mut self, event: Event<'e>, out: &mut Vec<Event<'e>>) -> Result<(), Differs> {
        match event {
            Event::Start { .. } if self.has_started => {}
            Event::PartStart { choice, part, kind } => {
                if self.meets(part as usize, &Kind::of(&kind))? {
                    return Ok(());
                }
                self.parts.push(Part {
                    kind: Kind::of(&kind),
                    text: String::new(),
                    is_whole: false,
                });
                out.push(Event::PartStart { choice, part, kind });
            }
            Event::PartDelta {
                choice,
                part,
                delta,
            } => {
                if let Some(delta) = self.rest(part as usize, delta)? {
                    self.remember(part as usize, &delta);
                    out.push(Event::PartDelta {
                        choice,
                        part,
                        delta,
                    });
                }
            }
            Event::PartStop { choice, part } => {
                if !self.closes(part as usize)? {
                    out.push(Event::PartStop { choice, part });
                }
            }
            Event::Finish { .. } | Event::End if self.is_behind() => return Err(Differs),
            // They were delivered with what is being compared.
            Event::Logprobs { .. } if self.at.is_some() => {}
            event => {
                self.has_started |= matches!(event, Event::Start { .. });
                out.push(event);
            }
        }
        Ok(())
    }

    /// Whether the comparison has not met everything that was delivered.
    fn is_behind(&self) -> bool {
        self.at.is_some_and(|(part, met)| {
            let rest = self.parts.get(part..).unwrap_or_default();
            rest.iter()
                .enumerate()
                .any(|(index, it)| index > 0 || it.text.len() > met)
        })
    }

    /// A part begins: whether it was delivered before.
    fn meets(&mut self, part: usize, kind: &Kind) -> Result<bool, Differs> {
        let Some((at, _)) = self.at else {
            return Ok(false);
        };
        match self.parts.get(part) {
            Some(known) if part == at && known.kind == *kind => Ok(true),
            Some(_) => Err(Differs),
            None => {
                // All of it was met: from here on it is new.
                self.at = None;
                Ok(false)
            }
        }
    }

    /// What of a delta was not delivered before.
    fn rest<'e>(&mut self, part: usize, delta: Delta<'e>) -> Result<Option<Delta<'e>>, Differs> {
        let Some((at, met)) = self.at else {
            return Ok(Some(delta));
        };
        let known = self.parts.get(part).filter(|_| part == at).ok_or(Differs)?;
        let said = lit(&delta).unescape();
        let open = &known.text[met..];
        if let Some(beyond) = said.strip_prefix(open) {
            if known.is_whole && !beyond.is_empty() {
                return Err(Differs);
            }
            self.at = Some((at, known.text.len()));
            if beyond.is_empty() {
                return Ok(None);
            }
            let beyond = Lit::of(beyond).into_owned();
            return Ok(Some(same_kind(&delta, beyond)));
        }
        if open.starts_with(said.as_ref()) {
            self.at = Some((at, met + said.len()));
            return Ok(None);
        }
        Err(Differs)
    }

    /// A part is whole: whether that was delivered before.
    fn closes(&mut self, part: usize) -> Result<bool, Differs> {
        let known = self.parts.get_mut(part).ok_or(Differs)?;
        let Some((at, met)) = self.at else {
            known.is_whole = true;
            return Ok(false);
        };
        if at != part || met < known.text.len() {
            return Err(Differs);
        }
        self.at = Some((at + 1, 0));
        Ok(std::mem::replace(&mut known.is_whole, true))
    }

    fn remember(&mut self, part: usize, delta: &Delta<'_>) {
        let Some(known) = self.parts.get_mut(part) else {
            return;
        };
        let said = lit(delta).unescape();
        self.bytes += said.len();
        if self.bytes > DELIVERED_BYTES_MAX {
            self.is_lost = true;
            self.at = None;
            self.parts
                .iter_mut()
                .for_each(|part| part.text = String::new());
            return;
        }
        known.text.push_str(&said);
        if let Some((at, met)) = &mut self.at
            && *at == part
        {
            *met += said.len();
        }
    }
}

/// The text of a delta. A signature belongs to the thought that it signs, so it is compared as if
/// it stood behind it.
fn lit<'d, 'e>(delta: &'d Delta<'e>) -> &'d Lit<'e> {
    match delta {
        Delta::Text(lit)
        | Delta::Thinking(lit)
        | Delta::Signature(lit)
        | Delta::Refusal(lit)
        | Delta::Arguments(lit) => lit,
    }
}

fn same_kind<'e>(delta: &Delta<'_>, text: Lit<'e>) -> Delta<'e> {
    match delta {
        Delta::Text(_) => Delta::Text(text),
        Delta::Thinking(_) => Delta::Thinking(text),
        Delta::Signature(_) => Delta::Signature(text),
        Delta::Refusal(_) => Delta::Refusal(text),
        Delta::Arguments(_) => Delta::Arguments(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::form::Stop;
    use proptest::prelude::*;

    type Answer = Vec<(PartStart<'static>, String)>;

    /// The events of an answer whose parts' texts come in pieces of `size` bytes or so.
    fn events(answer: &Answer, size: usize) -> Vec<Event<'static>> {
        let choice = 0;
        let mut all = vec![Event::Start {
            id: Lit::of("x"),
            model: Lit::of("m"),
            created: None,
            usage: None,
        }];
        for (part, (kind, text)) in (0..).zip(answer) {
            let kind = kind.clone();
            all.push(Event::PartStart { choice, part, kind });
            let letters: Vec<char> = text.chars().collect();
            for piece in letters.chunks(size) {
                let piece = Lit::of(&piece.iter().collect::<String>()).into_owned();
                let delta = match answer[part as usize].0 {
                    PartStart::ToolCall { .. } => Delta::Arguments(piece),
                    _ => Delta::Text(piece),
                };
                all.push(Event::PartDelta {
                    choice,
                    part,
                    delta,
                });
            }
            all.push(Event::PartStop { choice, part });
        }
        all.push(Event::Finish {
            choice,
            stop: Stop::End,
            stop_sequence: None,
        });
        all.push(Event::End);
        all
    }

    /// What the events say: the parts' texts, and how often each kind of other event came.
    fn said(events: &[Event<'_>]) -> (Vec<String>, [usize; 4]) {
        let (mut texts, mut counts) = (Vec::<String>::new(), [0; 4]);
        for event in events {
            match event {
                Event::Start { .. } => counts[0] += 1,
                Event::PartStart { part, .. } => {
                    assert_eq!(*part as usize, texts.len());
                    texts.push(String::new());
                }
                Event::PartDelta { part, delta, .. } => {
                    texts[*part as usize].push_str(&lit(delta).unescape());
                }
                Event::PartStop { .. } => counts[1] += 1,
                Event::Finish { .. } => counts[2] += 1,
                Event::End => counts[3] += 1,
                _ => {}
            }
        }
        (texts, counts)
    }

    /// Delivers `first` up to event `cut`, then goes on with `second`.
    fn spliced(
        first: Vec<Event<'static>>,
        cut: usize,
        second: Vec<Event<'static>>,
    ) -> Result<Vec<Event<'static>>, Differs> {
        let (mut splice, mut out) = (Splice::default(), Vec::new());
        for event in first.into_iter().take(cut) {
            splice.event(event, &mut out)?;
        }
        splice.restart();
        for event in second {
            splice.event(event, &mut out)?;
        }
        Ok(out)
    }

    fn tool() -> PartStart<'static> {
        PartStart::ToolCall {
            id: Lit::of("c"),
            name: Lit::of("f"),
        }
    }

    #[test]
    fn another_answer_is_not_gone_on_with() {
        let first: Answer = vec![(PartStart::Text, "Hello there".to_owned())];
        let check = |second: Answer, cut: usize, is_same: bool| {
            let result = spliced(events(&first, 2), cut, events(&second, 3));
            assert_eq!(result.is_ok(), is_same, "{second:?}");
        };
        check(
            vec![(PartStart::Text, "Hello there, you".to_owned())],
            4,
            true,
        );
        check(vec![(PartStart::Text, "Hullo there".to_owned())], 4, false);
        check(vec![(PartStart::Text, "H".to_owned())], 4, false);
        check(vec![(tool(), "Hello there".to_owned())], 4, false);
        // The first had ended its part.
        check(
            vec![(PartStart::Text, "Hello there, you".to_owned())],
            9,
            false,
        );
        check(vec![], 4, false);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn the_same_answer_is_delivered_once_wherever_it_was_cut(
            answer in prop::collection::vec((any::<bool>(), "[a-cä\"]{0,12}"), 1..4),
            sizes in (1..5_usize, 1..5_usize),
            cut in any::<prop::sample::Index>(),
        ) {
            let answer: Answer = answer
                .into_iter()
                .map(|(is_tool, text)| (if is_tool { tool() } else { PartStart::Text }, text))
                .collect();
            let (first, second) = (events(&answer, sizes.0), events(&answer, sizes.1));
            // Before its finish: what has finished was not cut.
            let cut = cut.index(first.len() - 1);
            let out = spliced(first, cut, second).unwrap();
            let texts: Vec<String> = answer.into_iter().map(|(_, text)| text).collect();
            let parts = texts.len();
            prop_assert_eq!(said(&out), (texts, [1, parts, 1, 1]));
        }
    }
}
