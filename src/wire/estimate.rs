//! How many tokens a request to Anthropic's `count_tokens` would have, for providers that cannot
//! count. An estimate, and said to be one.
//!
//! No vendor publishes a tokenizer for all of its models, and a table of one would be larger than
//! this program. What holds well enough for all of them: four bytes of ASCII prose make a token, a
//! character of an ideographic script makes about one, other scripts' letters make half a token,
//! and an image costs what its vendor says it does at most.

use super::json::view::View;

/// Bytes of ASCII in one token. Source: OpenAI, "What are tokens and how to count them".
const ASCII_BYTES_PER_TOKEN: u64 = 4;
/// An image of the largest size that is not scaled down. Source: Anthropic, "Vision", 1.15
/// megapixels at 750 pixels a token.
const IMAGE_TOKENS: u64 = 1_600;
/// Bytes of a document, as base64, that make one token: a page of text has about 2,000 tokens and,
/// as PDF, some 60 KB.
const DOCUMENT_BYTES_PER_TOKEN: u64 = 40;
/// Levels of containers that are looked into. Messages have five at most, tool inputs some more.
const DEPTH_MAX: u32 = 16;
/// What each message costs beside its text.
const MESSAGE_TOKENS: u64 = 4;

/// The tokens of the prompt of a request in any dialect: system prompt, conversation, tools.
/// At least 1.
pub fn input_tokens(body: View<'_>) -> u64 {
    let mut tokens = 0_u64;
    for (key, value) in body.members() {
        match key.as_ref() {
            "system" | "instructions" => tokens += texts(value) + MESSAGE_TOKENS,
            "input" if value.is_string() => tokens += texts(value) + MESSAGE_TOKENS,
            "messages" | "input" => {
                let messages = value.items();
                tokens += messages.map(|it| texts(it) + MESSAGE_TOKENS).sum::<u64>();
            }
            // Schemas are shown to the model as the JSON they are.
            "tools" => tokens += ascii(value.text().len() as u64),
            _ => {}
        }
    }
    tokens.max(1)
}

/// The tokens of every text within a value. Walks containers from a list of its own, since a
/// stranger chooses how deep they are; each level is walked anew, so those beyond any that means
/// something are counted by their length.
fn texts(value: View<'_>) -> u64 {
    let mut tokens = 0_u64;
    let mut open = vec![(value, 0)];
    while let Some((value, depth)) = open.pop() {
        if depth > DEPTH_MAX {
            tokens += ascii(value.text().len() as u64);
        } else if value.is_string() {
            tokens += text(value);
        } else if value.is_array() {
            open.extend(value.items().map(|value| (value, depth + 1)));
        } else if value.is_object() {
            match value.get("type").and_then(View::string).as_deref() {
                Some("image" | "image_url" | "input_image") => tokens += IMAGE_TOKENS,
                Some("document") => tokens += document(value),
                Some("file" | "input_file") => {
                    tokens += value.text().len() as u64 / DOCUMENT_BYTES_PER_TOKEN;
                }
                _ => {
                    let worth = |(key, _): &(std::borrow::Cow<'_, str>, View<'_>)| {
                        !matches!(
                            key.as_ref(),
                            "type" | "role" | "id" | "tool_use_id" | "cache_control" | "signature"
                        )
                    };
                    let members = value.members().filter(worth);
                    open.extend(members.map(|(_, value)| (value, depth + 1)));
                }
            }
        }
    }
    tokens
}

fn document(block: View<'_>) -> u64 {
    let Some(source) = block.get("source") else {
        return 0;
    };
    match source.get("type").and_then(View::string).as_deref() {
        Some("base64") => {
            let data = source.get("data");
            data.map_or(0, |data| {
                data.text().len() as u64 / DOCUMENT_BYTES_PER_TOKEN
            })
        }
        _ => texts(source),
    }
}

/// The tokens of one string literal.
fn text(literal: View<'_>) -> u64 {
    let Some(said) = literal.string() else {
        return 0;
    };
    let (mut plain, mut letters, mut ideographs) = (0_u64, 0_u64, 0_u64);
    for character in said.chars() {
        match character {
            '\0'..='\x7f' => plain += 1,
            // From CJK radicals to Hangul, and the planes beyond.
            '\u{2E80}'..='\u{D7FF}' | '\u{F900}'..='\u{FAFF}' | '\u{10000}'.. => ideographs += 1,
            _ => letters += 1,
        }
    }
    ascii(plain) + letters.div_ceil(2) + ideographs
}

const fn ascii(bytes: u64) -> u64 {
    bytes.div_ceil(ASCII_BYTES_PER_TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_images_documents_and_tools_are_estimated() {
        let check = |body: &str, expected: u64| {
            assert_eq!(input_tokens(View::new(body)), expected, "{body}");
        };
        check("{}", 1);
        check(
            r#"{"messages":[{"role":"user","content":"12345678"}]}"#,
            2 + 4,
        );
        check(r#"{"system":"1234","messages":[]}"#, 1 + 4);
        check(r#"{"messages":[{"content":"日本語éé"}]}"#, 3 + 1 + 4);
        check(
            r#"{"messages":[{"content":[{"type":"text","text":"abcd"},{"type":"image","source":{"type":"base64","data":"AAAA"}}]}]}"#,
            1 + 1_600 + 4,
        );
        check(
            r#"{"messages":[{"content":[{"type":"document","source":{"type":"text","data":"abcdefgh"}}]}]}"#,
            2 + 4,
        );
        check(r#"{"tools":[{"name":"f","input_schema":{}}]}"#, 8);
        // The other dialects' ways to say the same: an image is not as long as its data.
        let data = "A".repeat(1 << 20);
        check(
            &format!(
                r#"{{"messages":[{{"content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]}}"#
            ),
            1_600 + 4,
        );
        check(
            r#"{"instructions":"1234","input":"12345678"}"#,
            1 + 4 + 2 + 4,
        );
        check(r#"{"input":[{"role":"user","content":"12345678"}]}"#, 2 + 4);
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{{\"messages\":[{}{}]}}", "[".repeat(100), "]".repeat(100));
        // Sixteen levels are looked into; what is left is brackets.
        assert_eq!(
            input_tokens(View::new(&deep)),
            4 + (200_u64 - 2 * 17).div_ceil(4)
        );
    }
}
