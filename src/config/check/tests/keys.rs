//! The keys of providers: one, several, none, and what is wrong with them.

use crate::config::check_text;
use crate::config::fault::Fault;

#[test]
fn the_keys_of_a_provider_are_one_or_a_list_and_never_shown() {
    let env = |name: &str| match name {
        "ONE" | "OPENAI_API_KEY" => Some("hunter-1".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    let check = |keys: &str, expected: Result<&[&str], &str>, warning: &str| {
        let text = format!("providers:\n  openai:\n    {keys}\n");
        match (check_text("f", &text, &env, false), expected) {
            (Ok(config), Ok(expected)) => {
                let openai = &config.providers["openai"];
                let keys: Vec<_> = openai.api_keys.iter().map(|key| key.expose()).collect();
                assert_eq!(keys, expected, "{text}");
                assert_eq!(openai.first_key(), openai.api_keys.first());
                let said = config.warnings.join("\n");
                assert_eq!(said.is_empty(), warning.is_empty(), "{said}");
                assert!(said.contains(warning), "{said}");
            }
            (Err(found), Err(expected)) => {
                let found: Vec<String> = found.iter().map(Fault::to_string).collect();
                assert_eq!(found.len(), 1, "{found:#?}");
                assert!(found[0].starts_with(expected), "{found:#?}");
                assert!(!found[0].contains("hunter"), "{found:#?}");
            }
            (found, _) => panic!("{text}{found:#?}"),
        }
    };
    check("timeout: 1", Ok(&["hunter-1"]), "");
    check("api_key: x", Ok(&["x"]), "");
    check(
        "api_key: ''",
        Ok(&[]),
        "neither providers.openai.api_key nor",
    );
    check("api_keys: ['${ONE}', x]", Ok(&["hunter-1", "x"]), "");
    let left_out = "providers.openai.api_keys[1] is empty: it is left out";
    check("api_keys: [x, '${EMPTY}']", Ok(&["x"]), left_out);
    let none = "neither providers.openai.api_keys nor";
    check("api_keys: ['${EMPTY}']", Ok(&[]), none);
    let path = "providers.openai.api_keys";
    let fault = |column, what: &str| format!("f:3:{column}: {path}{what}");
    let refuse = |keys: &str, fault: String| check(keys, Err(&fault), "");
    refuse("api_keys: []", fault(5, ": holds 0 keys"));
    refuse("api_keys: hunter", fault(5, ": holds a single value"));
    refuse(
        "api_keys: [hunter-1, x, '${ONE}']",
        fault(29, "[2]: is the same key as [0]"),
    );
    refuse("api_keys: [x, '${NOT_SET}']", fault(19, "[1]: "));
    refuse("api_keys: [x, 'file:/no/file']", fault(19, "[1]: "));
    let many: Vec<String> = (0..101).map(|index| format!("key-{index}")).collect();
    let many = format!("api_keys: [{}]", many.join(", "));
    refuse(&many, fault(5, ": holds 101 keys"));
    let both = "api_keys: [hunter]\n    api_key: hunter";
    refuse(both, fault(5, ": is written beside `api_key`"));
    let text = "providers:\n  play:\n    kind: simulator\n    api_keys: [hunter]\n";
    let found = check_text("f", text, &env, false).unwrap_err();
    let start = "f:4:5: providers.play.api_keys: has no effect";
    assert!(found[0].to_string().starts_with(start), "{found:#?}");
}
