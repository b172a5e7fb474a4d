//! Names that a mistyped one may have meant, for the 404 of an unknown model.
//!
//! A suggestion is a courtesy and anybody can ask for one, so its work is bounded whatever the
//! name and however many the candidates. Start at [`near_matches`].

use std::cmp::Reverse;

/// Suggestions in one error.
pub const NEAR_MAX: usize = 5;
/// Candidates that are looked at: the worst case is then about a millisecond.
const CANDIDATES_MAX: usize = 500;
/// Characters of a name that are compared.
const COMPARED_CHARS_MAX: usize = 64;
/// Below this likeness (Jaro-Winkler, 0 to 1) a name is another name, not a typing error.
const LIKENESS_MIN: f64 = 0.82;

/// Up to [`NEAR_MAX`] of `candidates`, the likest first: those that differ from `name` by little,
/// or contain it, in any case; a candidate `provider/model` is also known by its model alone.
pub fn near_matches<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted = comparable(name);
    let mut near: Vec<(u32, &str)> = candidates
        .into_iter()
        .take(CANDIDATES_MAX)
        .filter_map(|candidate| Some((likeness(&wanted, candidate)?, candidate)))
        .collect();
    near.sort_unstable_by_key(|(likeness, candidate)| (Reverse(*likeness), *candidate));
    near.dedup_by_key(|(_, candidate)| *candidate);
    near.into_iter()
        .take(NEAR_MAX)
        .map(|(_, candidate)| candidate.to_owned())
        .collect()
}

fn comparable(name: &str) -> String {
    name.chars()
        .take(COMPARED_CHARS_MAX)
        .flat_map(char::to_lowercase)
        .collect()
}

/// The set of a name's characters, folded into 64 bits.
fn letters(name: &str) -> u64 {
    name.chars()
        .fold(0, |set, letter| set | 1 << (u32::from(letter) % 64))
}

/// How like `candidate` is to `wanted`, in thousandths; `None` for unlike.
fn likeness(wanted: &str, candidate: &str) -> Option<u32> {
    let whole = comparable(candidate);
    // Names that have few characters in common are unlike, and that is quickly seen.
    let (asked, known) = (letters(wanted), letters(&whole));
    if (asked & known).count_ones() * 10 < asked.count_ones() * 6 {
        return None;
    }
    let own = whole.rsplit('/').next().unwrap_or(&whole);
    let typed = strsim::jaro_winkler(wanted, &whole).max(strsim::jaro_winkler(wanted, own));
    // A part of a name is a name begun, unless it is so short that everything contains it.
    let part = wanted.len() >= 3 && whole.contains(wanted);
    let best = if part { typed.max(LIKENESS_MIN) } else { typed };
    (best >= LIKENESS_MIN).then_some((best * 1000.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likest_come_first_and_strangers_not_at_all() {
        let known = [
            "claude-haiku-4-5",
            "gpt-4o",
            "gpt-4o-mini",
            "openai/gpt-4o-mini",
            "sim",
        ];
        let check = |name: &str, expected: &[&str]| {
            assert_eq!(near_matches(name, known), expected, "{name}");
        };
        check(
            "gpt4o-mini",
            &["gpt-4o-mini", "openai/gpt-4o-mini", "gpt-4o"],
        );
        check("GPT-4O", &["gpt-4o", "gpt-4o-mini", "openai/gpt-4o-mini"]);
        check("haiku", &["claude-haiku-4-5"]);
        check("llama-3", &[]);
        check("", &[]);
    }

    #[test]
    fn there_are_never_more_than_five() {
        let known: Vec<String> = (0..5_000).map(|n| format!("model-{n}")).collect();
        let near = near_matches(&"model-".repeat(50_000), known.iter().map(String::as_str));
        assert!(near.len() <= NEAR_MAX);
        assert_eq!(
            near_matches("model-1", known.iter().map(String::as_str)).len(),
            NEAR_MAX
        );
    }
}
