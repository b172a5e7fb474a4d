//! Routes: both of their forms, the ranks of their targets, every faulty value at its place.

use std::time::Duration;

use crate::config::check_text;
use crate::config::checked::{CheckedConfig, OnCut, Route};
use crate::config::fault::Fault;

const PROVIDERS: &str = "providers: {a: {kind: simulator}, b: {kind: simulator}}\n";

fn load(text: &str) -> Result<CheckedConfig, Vec<Fault>> {
    check_text("f", &format!("{PROVIDERS}{text}"), &|_| None, false)
}

fn route(written: &str) -> Route {
    let config = load(&format!("models:\n  m: {written}\n"));
    let mut config = config.unwrap_or_else(|faults| panic!("{written}: {faults:#?}"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    config.models.remove("m").unwrap()
}

#[test]
fn a_route_is_a_list_or_settings_with_one() {
    let list = "[{provider: a, model: x}, {provider: b, model: y}]";
    let bare = route(list);
    assert_eq!(route(&format!("{{targets: {list}}}")), bare);
    assert_eq!(bare, Route::of(bare.targets.clone()));
    assert_eq!(bare.hedge_after, None);
    assert_eq!((bare.hedge_share, bare.on_cut), (0.05, OnCut::Error));
    assert_eq!(bare.hold_first, Duration::ZERO);
    let full = route(&format!(
        "{{hedge_after_ms: 600000, hedge_share: 1, on_cut: restart, hold_first_ms: 60000, \
         targets: {list}}}"
    ));
    assert_eq!(full.hedge_after, Some(Duration::from_secs(600)));
    assert_eq!((full.hedge_share, full.on_cut), (1.0, OnCut::Restart));
    assert_eq!(full.hold_first, Duration::from_secs(60));
    assert_eq!(full.targets, bare.targets);
}

#[test]
fn what_a_target_can_do_is_known_only_where_it_is_written() {
    let route = route(
        "[{provider: a, model: x, context_tokens: 100000000, tools: false, images: true, \
         streaming: false}, {provider: b, model: y}]",
    );
    let known = |index: usize| {
        let target = &route.targets[index];
        let flags = [target.tools, target.images, target.streaming];
        (target.context_tokens, flags)
    };
    let flags = [Some(false), Some(true), Some(false)];
    assert_eq!(known(0), (Some(100_000_000), flags));
    assert_eq!(known(1), (None, [None; 3]));
}

#[test]
fn neighbours_with_a_written_weight_share_a_rank() {
    let check = |weights: &[u32], expected: &[u32]| {
        let target = |weight: &u32| match weight {
            0 => "{provider: a, model: x}".to_owned(),
            weight => format!("{{provider: a, model: x, weight: {weight}}}"),
        };
        let targets: Vec<String> = weights.iter().map(target).collect();
        let route = route(&format!("[{}]", targets.join(", ")));
        let ranks: Vec<u32> = route.targets.iter().map(|target| target.rank).collect();
        assert_eq!(ranks, expected, "{weights:?}");
        let read: Vec<u32> = route.targets.iter().map(|it| it.weight.get()).collect();
        let expected: Vec<u32> = weights.iter().map(|weight| *weight.max(&1)).collect();
        assert_eq!(read, expected);
    };
    check(&[0], &[0]);
    check(&[5], &[0]);
    check(&[0, 0, 0], &[0, 1, 2]);
    check(&[3, 1], &[0, 0]);
    check(&[1, 1, 0], &[0, 0, 1]);
    check(&[0, 1000, 1], &[0, 1, 1]);
    check(&[2, 0, 2], &[0, 1, 2]);
    check(&[1, 1, 0, 0, 1, 1, 1], &[0, 0, 1, 2, 3, 3, 3]);
}

#[test]
fn every_faulty_value_is_named_at_its_place() {
    // Each `#!` marks a fault: of the key in its line, with these words.
    let text = "\
models:
  m:
    targets:
      - provider: a
        model: x
        weight: 0                #! targets[0].weight out of range
        context_tokens: 0        #! targets[0].context_tokens out of range
        tools: sometimes         #! targets[0].tools expected true or false
        images: 1                #! targets[0].images expected true or false
        streaming: [true]        #! targets[0].streaming holds a list
      - provider: b
        model: y
        weight: 1001             #! targets[1].weight out of range
        context_tokens: 128k     #! targets[1].context_tokens did you mean 128000?
        contxt_tokens: 1         #! targets[1].contxt_tokens `context_tokens`?
        streaming: yes           #! targets[1].streaming did you mean true?
    hedge_after_ms: 0            #! hedge_after_ms from 1 to 600000
    hedge_share: 1.1             #! hedge_share a number from 0 to 1
    hold_first_ms: 60001         #! hold_first_ms from 0 to 60000
    on_cut: retry                #! on_cut one of error, restart
    hedge_after: 1               #! hedge_after `hedge_after_ms`?
";
    let found = load(text).unwrap_err();
    let mut found = found.iter().map(Fault::to_string);
    for (index, line) in text.lines().enumerate() {
        let Some((written, expected)) = line.split_once("#! ") else {
            continue;
        };
        let column = written.len() - written.trim_start().len() + 1;
        let (path, words) = expected.split_once(' ').unwrap();
        // The line of the providers goes before.
        let start = format!("f:{}:{column}: models.m.{path}: ", index + 2);
        let fault = found.next().unwrap_or_default();
        assert!(
            fault.starts_with(&start) && fault.contains(words),
            "expected {start}{words}, found {fault}"
        );
    }
    assert_eq!(found.next(), None);
}

#[test]
fn a_route_without_targets_is_refused_in_every_form() {
    let check = |written: &str, expected: &str| {
        let found = load(&format!("models:\n  m: {written}\n")).unwrap_err();
        let found: Vec<String> = found.iter().map(Fault::to_string).collect();
        assert!(found[0].starts_with(expected), "{written}: {found:#?}");
    };
    check("[]", "f:3:3: models.m: has no target that could");
    check("{targets: []}", "f:3:7: models.m.targets: has no target");
    check("{on_cut: error}", "f:3:3: models.m: has no `targets`");
    check("{provider: a, model: x}", "f:3:3: models.m: has no `target");
    check("{}", "f:3:3: models.m: has no `targets`");
    check("a", "f:3:3: models.m: holds a single value");
    check("", "f:3:3: models.m: holds nothing");
    check("{targets: a}", "f:3:7: models.m.targets: holds a single");
    check(
        "{targets: [{provider: c, model: x}]}",
        "f:3:18: models.m.targets[0].provider: there is no provider `c`",
    );
    let many = vec!["{provider: a, model: x}"; 33].join(", ");
    let expected = "f:3:7: models.m.targets: has 33 targets";
    check(&format!("{{targets: [{many}]}}"), expected);
}

#[test]
fn a_second_target_without_time_is_warned_about() {
    let check = |timeouts: [u32; 2], routes: &str, expected: &[&str]| {
        let [a, b] = timeouts;
        let text = format!(
            "providers: {{a: {{kind: simulator, timeout: {a}}}, b: {{kind: simulator, timeout: \
             {b}}}}}\ncoordinators: {{timeout_seconds: 60}}\nmodels: {{{routes}}}\n"
        );
        let warnings = check_text("f", &text, &|_| None, false).unwrap().warnings;
        let of_routes = warnings.iter().filter(|it| it.contains("first target"));
        let of_routes: Vec<_> = of_routes.collect();
        assert_eq!(of_routes.len(), usize::from(!expected.is_empty()));
        for warning in of_routes {
            let named = warning.rsplit(": ").next().unwrap();
            assert_eq!(named, expected.join(", "), "{warning}");
        }
    };
    let target = |name| format!("{{provider: {name}, model: x}}");
    let [a, b] = [target("a"), target("b")];
    let both = format!("m: [{a}, {b}], n: {{targets: [{b}, {a}]}}, o: [{a}]");
    check([60, 59], &both, &["models.m"]);
    check([59, 61], &both, &["models.n"]);
    check([60, 60], &both, &["models.m", "models.n"]);
    check([59, 59], &both, &[]);
    check([60, 60], &format!("o: [{a}]"), &[]);
}
