//! The house rules that a program can hold, read from the source.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::machine;

/// Files hold one noun each; one that grows past this is telling of a second.
const LINES_MAX: usize = 500;
/// What does not fit on a screen is not seen at once. Tables of unit tests may be longer.
const FUNCTION_LINES_MAX: usize = 70;

/// A source file, its path from the root, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The text before the unit tests, without comments: what runs in the daemon.
    fn code(&self) -> String {
        let program = self.text.split("#[cfg(test)]").next().unwrap_or_default();
        let without = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
        program.lines().map(without).collect::<Vec<_>>().join("\n")
    }

    /// Whether the file is a module of unit tests.
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }
}

fn read(folder: &Path, extension: &str, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            read(&path, extension, out);
        } else if path.extension().is_some_and(|own| own == extension) {
            out.push(path);
        }
    }
}

fn sources(folders: &[&str], extensions: &[&str]) -> Vec<Source> {
    let root = machine::root();
    let mut paths = Vec::new();
    for folder in folders {
        for extension in extensions {
            read(&root.join(folder), extension, &mut paths);
        }
    }
    paths.sort();
    paths
        .into_iter()
        .filter(|path| !path.components().any(|part| part.as_os_str() == "target"))
        .map(|path| Source {
            path: path
                .strip_prefix(&root)
                .expect("under it")
                .display()
                .to_string(),
            text: fs::read_to_string(&path).unwrap_or_default(),
        })
        .collect()
}

fn program() -> Vec<Source> {
    let mut sources = sources(&["src"], &["rs"]);
    sources.retain(|source| !source.is_test());
    assert!(sources.len() > 10, "the source was not found");
    sources
}

fn report(rule: &str, faults: Vec<String>) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

/// Every line of the program that holds one of `needles`, outside the places named.
fn uses(needles: &[&str], allowed: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in program() {
        if allowed.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        for (number, line) in source.code().lines().enumerate() {
            for needle in needles.iter().filter(|needle| line.contains(**needle)) {
                faults.push(format!("{}:{}: {needle}", source.path, number + 1));
            }
        }
    }
    faults
}

#[test]
fn files_are_short() {
    let faults = sources(&["src", "tests", "scripts"], &["rs"])
        .into_iter()
        .filter_map(|source| {
            let lines = source.text.lines().count();
            (lines > LINES_MAX).then(|| format!("{}: {lines} lines", source.path))
        })
        .collect();
    report("a file holds one noun, in 500 lines at most", faults);
}

/// The lines of each function, with the number of its first; rustfmt puts the end of one under its
/// beginning.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let is_function = body
            .split_once("fn ")
            .is_some_and(|(before, _)| before.split(' ').all(|word| QUALIFIERS.contains(&word)));
        if is_function {
            let end = format!("{}}}", &line[..line.len() - body.len()]);
            let rest = lines[number..].iter();
            let length = rest.take_while(|line| **line != end).count() + 1;
            found.push((number + 1, length));
        }
    }
    found
}

/// What may stand before `fn`.
const QUALIFIERS: [&str; 5] = ["", "pub", "pub(super)", "pub(crate)", "const"];

#[test]
fn functions_are_short() {
    let mut all = program();
    all.extend(sources(&["scripts"], &["rs"]));
    let mut faults = Vec::new();
    let mut seen = 0;
    for source in all {
        for (number, lines) in functions(&source.code()) {
            seen += 1;
            if lines > FUNCTION_LINES_MAX {
                faults.push(format!("{}:{number}: {lines} lines", source.path));
            }
        }
    }
    assert!(seen > 500, "only {seen} functions were found");
    report("a function has 70 lines at most", faults);
}

#[test]
fn every_module_begins_with_what_it_is_for() {
    let faults = sources(&["src", "tests", "scripts"], &["rs"])
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.path)
        .collect();
    report("a module begins with `//!`", faults);
}

#[test]
fn only_thread_rs_starts_threads() {
    let needles = [
        "std::thread::spawn",
        "std::thread::Builder",
        "std::thread::scope",
    ];
    report("threads", uses(&needles, &["src/thread.rs"]));
    report(
        "std's thread module under another name",
        uses(&["use std::thread"], &["src/thread.rs"]),
    );
}

#[test]
fn only_the_provider_opens_outward_sockets() {
    let needles = [
        "TcpStream::connect",
        "UdpSocket::bind",
        "ToSocketAddrs",
        "ureq::",
    ];
    report("outward sockets", uses(&needles, &["src/provider/"]));
}

#[test]
fn nothing_is_unbounded() {
    report(
        "bounds",
        uses(&["unbounded()", "unbounded::<", "mpsc::channel"], &[]),
    );
}

#[test]
fn locks_are_taken_through_sync_rs() {
    let allowed = ["src/sync.rs", "src/thread.rs", "src/thread/"];
    report("parking_lot", uses(&["parking_lot"], &allowed));
    let std_locks = [
        "std::sync::Mutex",
        "std::sync::RwLock",
        "std::sync::Condvar",
    ];
    report("std's locks", uses(&std_locks, &allowed));
}

#[test]
fn nothing_is_unsafe_or_unfinished() {
    report("unsafe", uses(&["unsafe "], &[]));
    report(
        "unfinished",
        uses(
            &["todo!(", "unimplemented!(", "dbg!(", "In the making"],
            &[],
        ),
    );
}

#[test]
fn the_wire_does_no_io_and_the_front_knows_no_llm() {
    let io = [
        "std::net",
        "std::fs",
        "std::io::",
        "Instant::now",
        "SystemTime::now",
    ];
    let wire: Vec<String> = uses(&io, &[])
        .into_iter()
        .filter(|fault| fault.starts_with("src/wire"))
        .collect();
    report("wire", wire);
    let words = [
        "crate::wire",
        "crate::provider",
        "crate::coordinator",
        "openai",
        "anthropic",
    ];
    let front: Vec<String> = uses(&words, &[])
        .into_iter()
        .filter(|fault| fault.starts_with("src/front"))
        .collect();
    report("front", front);
    report("config::raw", uses(&["config::raw"], &["src/config/"]));
}

/// The floors of the house, from the top down; a module uses those on floors below its own only.
const FLOORS: [&[&str]; 14] = [
    &["main"],
    &["cli"],
    &["orchestrator"],
    &["admin", "api", "ops"],
    &["coordinator", "health"],
    &["provider", "cache"],
    &["simulator"],
    &["front", "metrics", "diagnostics", "store"],
    &["log", "signals", "wire"],
    &["config"],
    &["cancel", "compute"],
    &["sync"],
    &["thread"],
    &["clock", "decimal", "procfs", "rlimit", "swar", "systemd"],
];

/// The modules that a text names after `crate::`, in a list of them or alone.
fn used_modules(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let line = code[..at].lines().count().max(1);
        let rest = &code[at + "crate::".len()..];
        let mut depth = 0;
        let mut word = String::new();
        let mut is_path = false;
        for letter in rest.chars() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ':' => is_path = true,
                _ if letter.is_alphanumeric() || letter == '_' => {
                    if depth <= 1 && !is_path {
                        word.push(letter);
                    }
                    continue;
                }
                _ => {}
            }
            if !word.is_empty() {
                found.push((line, std::mem::take(&mut word)));
            }
            if depth == 0 {
                break;
            }
            if letter == ',' && depth == 1 {
                is_path = false;
            }
        }
    }
    found
}

#[test]
fn imports_run_downward() {
    let floor = |module: &str| FLOORS.iter().position(|floor| floor.contains(&module));
    let mut faults = Vec::new();
    for source in program() {
        let module = source.path.trim_start_matches("src/");
        let module = module.split(['/', '.']).next().unwrap_or_default();
        let Some(own) = floor(module) else {
            if module != "lib" {
                faults.push(format!("{}: its module is on no floor", source.path));
            }
            continue;
        };
        for (number, used) in used_modules(&source.code()) {
            if used != module && floor(&used).is_none_or(|other| other <= own) {
                faults.push(format!("{}:{number}: uses {used}", source.path));
            }
        }
    }
    report("imports run downward only", faults);
}

#[test]
fn the_modules_of_an_import_are_found_in_lists_too() {
    let check = |code: &str, expected: &[&str]| {
        let found = used_modules(code).into_iter().map(|(_, module)| module);
        assert_eq!(found.collect::<Vec<_>>(), expected, "{code}");
    };
    check("use crate::log;", &["log"]);
    check("let it = crate::front::bind(addr);", &["front"]);
    check(
        "use crate::{config::{raw, Checked}, front,\n    log::Line, wire};",
        &["config", "front", "log", "wire"],
    );
}

/// Names of metric families in a text.
fn families(text: &str) -> Vec<String> {
    let mut names: Vec<String> = text
        .split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
        .filter(|word| word.starts_with("victor_") && !word.ends_with('_'))
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The documents speak only of metrics that the program has.
#[test]
fn a_metric_that_is_documented_exists() {
    let code: String = program().iter().map(|source| source.text.clone()).collect();
    let mut faults = Vec::new();
    for source in sources(&["docs", "config", "deploy"], &["md", "yml", "json"]) {
        for name in families(&source.text) {
            let base = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(&name);
            if !code.contains(&name) && !code.contains(base) {
                faults.push(format!("{}: {name}", source.path));
            }
        }
    }
    report("metrics", faults);
}

/// What ARCHITECTURE.md calls by name, a test or a constant, is there under that name.
#[test]
fn what_the_architecture_names_exists() {
    let page = fs::read_to_string(machine::root().join("ARCHITECTURE.md")).expect("it is there");
    let mut code = fs::read_to_string(machine::root().join("Cargo.toml")).expect("it is there");
    let folders = ["src", "tests", "config", ".cargo"];
    for source in sources(&folders, &["rs", "yml", "toml"]) {
        code += &source.text;
    }
    let is_name = |word: &&str| {
        let plain = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'_';
        word.contains('_') && word.len() > 8 && word.bytes().all(plain)
    };
    // The odd pieces are those between backquotes.
    let names = page.split('`').skip(1).step_by(2).filter(is_name);
    let faults: Vec<String> = names
        .filter(|name| !code.contains(*name))
        .map(str::to_owned)
        .collect();
    report("ARCHITECTURE.md names what is not there", faults);
}

/// Every metric of the program is explained in the reference. That every key of the configuration
/// is, `config::check` holds in its unit tests.
#[test]
fn a_metric_that_exists_is_documented() {
    let reference = fs::read_to_string(machine::root().join("docs/api-reference.md"))
        .expect("docs/api-reference.md is shipped");
    let code: String = program().iter().map(Source::code).collect();
    // As a whole literal: what is put together or only mentioned is no family.
    let all = families(&code);
    let faults: Vec<String> = all
        .into_iter()
        .filter(|name| code.contains(&format!("\"{name}\"")))
        .filter(|name| !reference.contains(name.as_str()))
        .collect();
    report(
        "metrics that docs/api-reference.md does not explain",
        faults,
    );
}

/// The project speaks of itself: no path of somebody's machine, no package host but the default.
#[test]
fn nothing_names_a_machine() {
    let everything = sources(
        &[
            "src", "tests", "scripts", "config", "docs", "systemd", "deploy", ".ci", ".cargo",
        ],
        &[
            "rs", "sh", "py", "md", "yml", "json", "toml", "txt", "service", "socket",
        ],
    );
    // Put together here, so that this file does not hold them itself.
    let needles = [
        ["/ho", "me/"].concat(),
        ["/wo", "rk/"].concat(),
        ["/Use", "rs/"].concat(),
        ["/roo", "t/"].concat(),
        ["index-", "url"].concat(),
        ["replace-", "with"].concat(),
        ["artifac", "tory"].concat(),
    ];
    let mut faults = Vec::new();
    for source in everything {
        for needle in &needles {
            if source.text.contains(needle) {
                faults.push(format!("{}: {needle}", source.path));
            }
        }
    }
    report("the project speaks of itself alone", faults);
}
