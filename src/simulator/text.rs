//! What the simulator says: words, hashes, token counts. Pure, and the same on every machine.
//!
//! A generated token is one word. A token of a prompt is four bytes of its JSON, rounded up, plus
//! four for each message: the rule is simple so that a test can work the number out by hand.
//! Start at [`Words`].

use memchr::memmem;

/// Tokens among which stop sequences are looked for; what lies beyond them is not searched.
const STOP_SEARCH_TOKENS: u32 = 65_536;

/// All of plain ASCII without quotes or backslashes: no word needs escaping in JSON.
const WORDS: [&str; 64] = [
    " the",
    " quick",
    " brown",
    " fox",
    " jumps",
    " over",
    " a",
    " lazy",
    " dog",
    " while",
    " two",
    " ships",
    " sail",
    " north",
    " under",
    " pale",
    " stars",
    " and",
    " old",
    " maps",
    " show",
    " every",
    " harbour",
    " where",
    " lamps",
    " burn",
    " late",
    " for",
    " those",
    " who",
    " wait",
    " by",
    " water",
    " stone",
    " bridge",
    " river",
    " slow",
    " wind",
    " turns",
    " mill",
    " grain",
    " bread",
    " table",
    " warm",
    " light",
    " falls",
    " on",
    " green",
    " fields",
    " after",
    " rain",
    " birds",
    " return",
    " home",
    " with",
    " spring",
    " songs",
    " that",
    " few",
    " remember",
    " now",
    " or",
    " then",
    " again",
];

/// One of the words that answers are made of.
pub fn word(number: usize) -> &'static str {
    WORDS[number % WORDS.len()]
}

/// A 64-bit hash of `bytes`, eight at a time. It tells prompts apart; it resists no adversary.
pub fn hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
    let mut state = bytes.len() as u64;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        state = (state.rotate_left(5) ^ u64::from_le_bytes(*chunk)).wrapping_mul(FACTOR);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix((state.rotate_left(5) ^ u64::from_le_bytes(last)).wrapping_mul(FACTOR))
}

/// The finalizer of SplitMix64: spreads one number over all 64 bits.
pub const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The tokens of a prompt: four bytes make one, rounded up, and each message adds four.
pub fn prompt_tokens(bytes: usize, messages: u32) -> u32 {
    u32::try_from(bytes.div_ceil(4))
        .unwrap_or(u32::MAX)
        .saturating_add(messages.saturating_mul(4))
}

/// What words are for; it shows in the second of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// The answer itself.
    #[default]
    Answer,
    /// What is thought before it.
    Thought,
    /// Why there is none.
    Refusal,
}

/// An answer's text as a sequence of tokens, none of which is made before it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    purpose: Purpose,
    seed: u64,
    count: u32,
    /// How many bytes of the last token there are, when a stop sequence began inside it.
    last_bytes: Option<u8>,
}

impl Words {
    /// `count` tokens that depend on `seed` alone.
    pub const fn new(seed: u64, count: u32) -> Self {
        Self::with_purpose(Purpose::Answer, seed, count)
    }

    /// `count` tokens that depend on `seed` and on what they are for.
    pub const fn with_purpose(purpose: Purpose, seed: u64, count: u32) -> Self {
        Self {
            purpose,
            seed,
            count,
            last_bytes: None,
        }
    }

    /// How many tokens there are.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Appends token `index`.
    pub fn token(&self, index: u32, out: &mut Vec<u8>) {
        let start = out.len();
        match index {
            0 => out.extend_from_slice(b"sim"),
            1 => out.extend_from_slice(match self.purpose {
                Purpose::Answer => &b" answer"[..],
                Purpose::Thought => b" thought",
                Purpose::Refusal => b" refusal",
            }),
            2 => {
                let nibble = |shift: u32| b"0123456789abcdef"[(self.seed >> shift) as usize & 15];
                out.extend_from_slice(&[b' ', nibble(12), nibble(8), nibble(4), nibble(0), b':']);
            }
            _ => {
                let word = mix(self.seed ^ u64::from(index)) as usize % WORDS.len();
                out.extend_from_slice(WORDS[word].as_bytes());
            }
        }
        if let Some(bytes) = self.last_bytes.filter(|_| index + 1 == self.count) {
            out.truncate(start + usize::from(bytes));
        }
    }

    /// Appends the whole text.
    pub fn all(&self, out: &mut Vec<u8>) {
        for index in 0..self.count {
            self.token(index, out);
        }
    }

    /// Ends the text before the first of `stops` that occurs in it, and says which that was.
    pub fn stop_before<'s>(&mut self, stops: &'s [String]) -> Option<&'s str> {
        let searched = Self::new(self.seed, self.count.min(STOP_SEARCH_TOKENS));
        let mut text = Vec::new();
        searched.all(&mut text);
        let found = |stop: &'s String| Some((memmem::find(&text, stop.as_bytes())?, stop));
        let (at, stop) = stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .filter_map(found)
            .min_by_key(|(at, _)| *at)?;
        let (mut count, mut bytes, mut token) = (0, 0, Vec::new());
        while bytes < at {
            token.clear();
            self.token(count, &mut token);
            bytes += token.len();
            count += 1;
        }
        self.count = count;
        // The last token ends at `bytes`, of which what is past `at` belongs to the stop.
        self.last_bytes = u8::try_from(token.len() - (bytes - at))
            .ok()
            .filter(|_| bytes > at);
        Some(stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(words: Words) -> String {
        let mut out = Vec::new();
        words.all(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_same_seed_says_the_same_and_another_says_something_else() {
        let seed = hash(b"hello");
        assert_eq!(text(Words::new(seed, 16)), text(Words::new(seed, 16)));
        assert_ne!(
            text(Words::new(seed, 16)),
            text(Words::new(hash(b"hellp"), 16))
        );
        assert!(text(Words::new(0xab1f3a, 16)).starts_with("sim answer 1f3a: "));
        assert_eq!(text(Words::new(seed, 16)).split(' ').count(), 16);
    }

    #[test]
    fn no_word_needs_escaping() {
        for word in WORDS {
            assert_eq!(serde_json::to_string(word).unwrap(), format!("\"{word}\""));
        }
    }

    #[test]
    fn a_stop_sequence_ends_the_text_before_itself() {
        let check = |stops: &[&str], expected: &str, found: Option<&str>| {
            let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
            let mut words = Words::new(0x1f3a, 16);
            assert_eq!(words.stop_before(&stops), found);
            let whole = text(Words::new(0x1f3a, 16));
            let expected = if found.is_some() { expected } else { &whole };
            assert_eq!(text(words), expected);
        };
        check(&["answer"], "sim ", Some("answer"));
        check(&[" answer"], "sim", Some(" answer"));
        check(&["a:", "swer"], "sim an", Some("swer"));
        check(&["sim"], "", Some("sim"));
        check(&["absent", ""], "", None);
    }

    #[test]
    fn hashes_differ_by_length_and_by_tail() {
        let hashes = [&b""[..], b"\0", b"\0\0", b"12345678", b"12345678\0"].map(hash);
        for (index, one) in hashes.iter().enumerate() {
            assert!(hashes.iter().skip(index + 1).all(|other| one != other));
        }
    }
}
