//! Which calls share an answer: those that say the same, and no others.

use proptest::prelude::*;
use proptest::test_runner::TestRng;
use serde_json::{Map, Value};

use super::super::{Key, Place};
use crate::wire::Endpoint;

const PLACE: Place<'_> = Place {
    endpoint: Endpoint::ChatCompletions,
    coordinator: "ChatCoordinator",
    route: "gpt",
    scope: &[7; 32],
    headers: &[],
};

fn of(text: &str) -> Option<Key> {
    Key::of(&PLACE, text.as_bytes())
}

/// Any JSON; numbers are those that both of `serde_json`'s kinds of number can hold exactly.
fn any_value() -> impl Strategy<Value = Value> {
    let number = (-40..40i32).prop_map(|quarters| Value::from(f64::from(quarters) / 4.0));
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        "[a-c\"\\\\/\n\u{1}é😀]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            any_members(inner).prop_map(Value::Object),
        ]
    })
}

fn any_members(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec(("[a-d\"é😀]{0,3}", value), 0..5)
        .prop_map(|members| members.into_iter().collect())
}

/// Whether two values say the same: as `serde_json` holds them, `-0.0` apart from `0.0`.
fn says_the_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let bits = |number: &serde_json::Number| number.as_f64().map(f64::to_bits);
            bits(one) == bits(other)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| says_the_same(a, b))
        }
        (Value::Object(one), Value::Object(other)) => {
            let is_in = |(key, value)| other.get(key).is_some_and(|it| says_the_same(value, it));
            one.len() == other.len() && one.iter().all(is_in)
        }
        _ => one == other,
    }
}

/// Writes a value in one of its many ways.
struct Scribe {
    rng: TestRng,
    text: String,
}

impl Scribe {
    fn chance(&mut self, most: u32) -> u32 {
        self.rng.next_u32() % most
    }

    fn blanks(&mut self) {
        for _ in 0..self.chance(3) {
            let at = self.chance(4) as usize;
            self.text.push([' ', '\n', '\t', '\r'][at]);
        }
    }

    fn string(&mut self, said: &str) {
        self.text.push('"');
        for letter in said.chars() {
            let must = letter == '"' || letter == '\\' || letter < ' ';
            if must || self.chance(3) == 0 {
                let upper = self.chance(2) == 0;
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    self.text += &match upper {
                        true => format!("\\u{unit:04X}"),
                        false => format!("\\u{unit:04x}"),
                    };
                }
            } else if letter == '/' && self.chance(2) == 0 {
                self.text += "\\/";
            } else {
                self.text.push(letter);
            }
        }
        self.text.push('"');
    }

    fn number(&mut self, value: f64) {
        let text = match self.chance(4) {
            0 => format!("{value}"),
            1 => format!("{value:.3}"),
            2 => format!("{value:e}"),
            _ => format!("{:.2}E-0{}", value * 100.0, 2),
        };
        self.text += &text;
    }

    fn list<T>(&mut self, ends: [char; 2], items: Vec<T>, each: impl Fn(&mut Self, T)) {
        self.text.push(ends[0]);
        self.blanks();
        for (number, item) in items.into_iter().enumerate() {
            if number > 0 {
                self.text.push(',');
                self.blanks();
            }
            each(self, item);
            self.blanks();
        }
        self.text.push(ends[1]);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::String(said) => self.string(said),
            Value::Number(number) => self.number(number.as_f64().unwrap_or_default()),
            Value::Array(items) => self.list(['[', ']'], items.iter().collect(), Self::value),
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                for index in (1..members.len()).rev() {
                    let other = self.chance(index as u32 + 1) as usize;
                    members.swap(index, other);
                }
                self.list(['{', '}'], members, |scribe, (key, value)| {
                    scribe.string(key);
                    scribe.blanks();
                    scribe.text.push(':');
                    scribe.blanks();
                    scribe.value(value);
                });
            }
            other => self.text += &other.to_string(),
        }
    }
}

fn written(value: &Value, rng: TestRng) -> String {
    let mut scribe = Scribe {
        rng,
        text: String::new(),
    };
    scribe.blanks();
    scribe.value(value);
    scribe.blanks();
    scribe.text
}

/// Changes one place of a value to `new`, or adds it there.
fn mutate(value: &mut Value, new: Value, mut path: u32) {
    let mut at = value;
    loop {
        let step = (path % 4) as usize;
        path /= 4;
        let is_over = path == 0;
        // Looked at first: what is borrowed for the way down cannot be overwritten here.
        let is_container = match &*at {
            Value::Array(items) => !items.is_empty(),
            Value::Object(members) => !members.is_empty(),
            _ => false,
        };
        if !is_container {
            *at = new;
            return;
        }
        match at {
            Value::Array(items) if is_over => return items.push(new),
            Value::Object(members) if is_over => {
                members.insert("unheard-of".to_owned(), new);
                return;
            }
            Value::Array(items) => {
                let index = step % items.len();
                at = &mut items[index];
            }
            Value::Object(members) => {
                let index = step % members.len();
                let Some(next) = members.values_mut().nth(index) else {
                    return;
                };
                at = next;
            }
            _ => return,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn written_in_any_way_it_is_the_same_key(
        members in any_members(any_value()), rng in any::<u64>().prop_perturb(|_, rng| rng)
    ) {
        let value = Value::Object(members);
        let text = written(&value, rng);
        // The value itself is what the text says, or nothing here would mean anything.
        prop_assert!(says_the_same(&serde_json::from_str(&text).unwrap(), &value), "{}", text);
        prop_assert!(of(&text).is_some());
        prop_assert_eq!(of(&text), of(&value.to_string()), "{}", text);
    }

    #[test]
    fn a_change_of_any_member_is_another_key(
        members in any_members(any_value()), new in any_value(), path in any::<u32>(),
        rng in any::<u64>().prop_perturb(|_, rng| rng)
    ) {
        let before = Value::Object(members);
        let mut after = before.clone();
        mutate(&mut after, new, path);
        prop_assume!(after.is_object());
        let is_same = says_the_same(&before, &after);
        let text = written(&after, rng);
        prop_assert_eq!(of(&text) == of(&before.to_string()), is_same, "{} {}", before, text);
    }

    #[test]
    fn two_values_have_one_key_if_they_say_the_same(
        one in any_members(any_value()), other in any_members(any_value())
    ) {
        let (one, other) = (Value::Object(one), Value::Object(other));
        let is_same = says_the_same(&one, &other);
        prop_assert_eq!(of(&one.to_string()) == of(&other.to_string()), is_same);
    }

    #[test]
    fn any_text_has_a_key_or_none(text in "[\\[\\]{}\",:a-c0-9\\\\u .e\u{e9}-]{0,40}") {
        let text = format!("{{\"a\":{text}}}");
        if of(&text).is_some() {
            let walked = crate::wire::json::walk_object(&text, |_| {});
            prop_assert_eq!(walked, Ok(()), "{}", text);
        }
    }
}

#[test]
fn where_a_call_goes_and_for_whom_is_part_of_its_key() {
    let body = br#"{"model":"x","messages":[]}"#;
    let others = [
        Place {
            endpoint: Endpoint::Completions,
            ..PLACE
        },
        Place {
            coordinator: "Other",
            ..PLACE
        },
        Place {
            route: "gp",
            coordinator: "ChatCoordinatort",
            ..PLACE
        },
        Place {
            route: "gpt-4",
            ..PLACE
        },
        Place {
            scope: &[8; 32],
            ..PLACE
        },
        Place {
            headers: &[("anthropic-beta", b"x")],
            ..PLACE
        },
        Place {
            headers: &[("anthropic-beta", b""), ("x", b"")],
            ..PLACE
        },
    ];
    let mut keys: Vec<_> = others.iter().map(|place| Key::of(place, body)).collect();
    keys.push(Key::of(&PLACE, body));
    assert!(keys.iter().all(Option::is_some));
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), others.len() + 1);
}

#[test]
fn what_cannot_change_the_answer_is_no_part_of_the_key() {
    let plain = r#"{"messages":[{"user":"a"}]}"#;
    let check = |endpoint, body: &str, is_same: bool| {
        let place = Place { endpoint, ..PLACE };
        let keys = [plain, body].map(|body| Key::of(&place, body.as_bytes()));
        assert_eq!(keys[0] == keys[1], is_same, "{endpoint:?} {body}");
    };
    let more = r#"{"model":"m","stream":true,"stream_options":{},"us\u0065r":"a","metadata":{"b":1},"messages":[{"user":"a"}]}"#;
    check(Endpoint::ChatCompletions, more, true);
    check(Endpoint::Messages, more, true);
    check(Endpoint::Responses, more, false);
    let split = r#"{"prompt_cache_key":"a","safety_identifier":"b","messages":[{"user":"a"}]}"#;
    check(Endpoint::ChatCompletions, split, true);
    check(Endpoint::Messages, split, false);
    for kept in [
        r#"{"messages":[{"user":"b"}]}"#,
        r#"{"messages":[{}]}"#,
        r#"{"messages":[{"user":"a"}],"seed":1}"#,
        r#"{"messages":[{"user":"a"}],"Stream":true}"#,
    ] {
        check(Endpoint::ChatCompletions, kept, false);
    }
    let repeated = r#"{"user":"a","user":"b"}"#;
    assert_eq!(of(repeated), None);
}
