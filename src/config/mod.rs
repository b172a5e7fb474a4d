//! The configuration: what was written, what holds, and every fault in between.
//!
//! [`locate`] finds the file, [`load`] reads and checks it. `tree` is the text with positions,
//! `raw` reads settings from it and notes faults, `check` has the sections and what must hold
//! between them, [`checked`] is what the rest of the program sees. An invalid configuration is
//! refused as a whole: no part of it may take effect. Start reading at [`check_text`].

pub mod checked;
pub mod fault;

mod check;
mod places;
mod presets;
mod raw;
mod recover;
mod scalar;
mod secrets;
mod tree;
mod write;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use checked::CheckedConfig;
pub use fault::{Fault, Pos};

use tree::TEXT_BYTES_MAX;

/// The environment variable that names the configuration file.
pub const FILE_VARIABLE: &str = "VICTOR_CONFIG";
/// Where the file is looked for if it is not named, in this order.
pub const FILES: [&str; 2] = ["./config/victor.yml", "/etc/victor/victor.yml"];

/// What to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// `None`: there is no file, the defaults hold.
    pub file: Option<PathBuf>,
    /// `--demo`: the built-in simulator answers, state is kept in `./.victor`.
    pub demo: bool,
}

impl Source {
    /// The file as faults name it.
    pub fn name(&self) -> String {
        match &self.file {
            Some(path) => {
                let path = path.strip_prefix("./").unwrap_or(path);
                path.display().to_string()
            }
            None => "defaults".to_owned(),
        }
    }
}

/// Finds the configuration file: `flag`, `$VICTOR_CONFIG`, `./config/victor.yml`,
/// `/etc/victor/victor.yml`, in this order. A file that is named is taken whether it is there or
/// not; [`load`] says so if it is not. A demonstration reads only a file that is named: the
/// others speak of real providers.
pub fn locate(flag: Option<&Path>, demo: bool) -> Source {
    let variable = std::env::var_os(FILE_VARIABLE).filter(|value| !value.is_empty());
    let named = flag
        .map(Path::to_owned)
        .or_else(|| variable.map(PathBuf::from));
    let found = || FILES.iter().map(PathBuf::from).find(|path| path.exists());
    Source {
        file: named.or_else(|| if demo { None } else { found() }),
        demo,
    }
}

/// Reads and checks the configuration, and makes the state folder if it is sound.
///
/// # Errors
/// Every fault, by position; nothing was changed then.
pub fn load(source: &Source) -> Result<CheckedConfig, Vec<Fault>> {
    let mut config = check(source)?;
    if source.file.is_none() && !source.demo {
        let warning = format!(
            "no configuration file was found ({FILE_VARIABLE}, {}): the defaults hold",
            FILES.join(", ")
        );
        config.warnings.insert(0, warning);
    }
    let local = Path::new(check::STATE_DIR_LOCAL);
    places::settle(&mut config, local).map_err(|message| {
        vec![at_file(
            &source.name(),
            Pos::START,
            message,
            "a `state_dir` that can be written to",
        )]
    })?;
    Ok(config)
}

/// Reads and checks the configuration and changes nothing; see [`check_text`].
///
/// # Errors
/// Every fault, by position.
pub fn check(source: &Source) -> Result<CheckedConfig, Vec<Fault>> {
    check_text(&source.name(), &text(source)?, &environment, source.demo)
}

/// Where the daemon of this configuration has its admin socket, in the order in which to look: the
/// place that is written, then where it falls back to. Reads neither secrets nor what else the
/// configuration says.
///
/// # Errors
/// The file cannot be read, or what it says about these places is at fault.
pub fn admin_sockets(source: &Source) -> Result<Vec<PathBuf>, Vec<Fault>> {
    let (name, text) = (source.name(), text(source)?);
    let mut raw = raw::Raw::new(&name, &environment);
    let parsed = tree::parse(text.strip_prefix('\u{feff}').unwrap_or(&text));
    let (state_dir, socket) = check::whereabouts(&mut raw, &parsed, source.demo);
    match raw.is_clean() {
        true => Ok(places::sockets(
            &state_dir,
            &socket,
            Path::new(check::STATE_DIR_LOCAL),
        )),
        false => Err(raw.into_faults()),
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The text of the file, or nothing where there is none.
fn text(source: &Source) -> Result<String, Vec<Fault>> {
    let Some(path) = &source.file else {
        return Ok(String::new());
    };
    read(path).map_err(|(pos, message)| {
        let expected = "a readable file of UTF-8 text, at most 1 MiB";
        vec![at_file(&source.name(), pos, message, expected)]
    })
}

/// Checks the text of a configuration called `name`, with `env` for the environment. Reads the
/// files of secrets and certificates that the text refers to, and changes nothing: the state
/// folder is neither made nor looked at.
///
/// # Errors
/// Every fault, by position.
pub fn check_text(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    demo: bool,
) -> Result<CheckedConfig, Vec<Fault>> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("is {} bytes long", text.len());
        return Err(vec![at_file(name, Pos::START, message, "at most 1 MiB")]);
    }
    let mut raw = raw::Raw::new(name, env);
    // A byte order mark is no part of the text (Unicode 15, section 23.8).
    let parsed = tree::parse(text.strip_prefix('\u{feff}').unwrap_or(text));
    match check::check(&mut raw, parsed, demo) {
        Some(config) => Ok(config),
        None => Err(raw.into_faults()),
    }
}

fn at_file(name: &str, pos: Pos, message: String, expected: &str) -> Fault {
    Fault {
        file: name.to_owned(),
        line: pos.line,
        column: pos.column,
        key: String::new(),
        message,
        expected: expected.to_owned(),
        suggestion: None,
    }
}

fn read(path: &Path) -> Result<String, (Pos, String)> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(TEXT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| (Pos::START, format!("cannot be read: {error}")))?;
    if bytes.len() > TEXT_BYTES_MAX {
        return Err((Pos::START, "is too long".to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid_up_to = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid_up_to]).into_owned();
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let pos = Pos {
            line: before.matches('\n').count() as u32 + 1,
            column: before[line_start..].chars().count() as u32 + 1,
        };
        (pos, "is not UTF-8 here".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_bytes(name: &str, bytes: &[u8]) -> Result<CheckedConfig, Vec<Fault>> {
        let path = std::env::temp_dir().join(format!("victor-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let source = Source {
            file: Some(path.clone()),
            demo: false,
        };
        let result = load(&source);
        std::fs::remove_file(&path).unwrap();
        result
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let source = locate(Some(Path::new("/no/such/victor.yml")), false);
        let faults = load(&source).unwrap_err();
        let fault = faults[0].to_string();
        assert!(
            fault.starts_with("/no/such/victor.yml:1:1: cannot be read: "),
            "{fault}"
        );
        assert!(load(&locate(Some(Path::new("/")), true)).is_err());
    }

    #[test]
    fn bytes_that_are_no_text_are_found_at_their_place() {
        let faults = load_bytes("utf8.yml", b"a: 1\n# \xc3\xa9\xff\n").unwrap_err();
        assert_eq!((faults[0].line, faults[0].column), (2, 4));
        let faults = load_bytes("long.yml", &vec![b'#'; TEXT_BYTES_MAX + 1]).unwrap_err();
        assert!(faults[0].message.contains("too long"));
    }

    #[test]
    fn a_configuration_with_a_fault_changes_nothing() {
        let state = std::env::temp_dir().join(format!("victor-{}-state", std::process::id()));
        let good = format!("state_dir: {}\n", state.display());
        assert!(load_bytes("bad.yml", format!("{good}nonsense: 1\n").as_bytes()).is_err());
        assert!(!state.exists());
        let config = load_bytes("good.yml", good.as_bytes()).unwrap();
        assert_eq!(config.state_dir, state);
        std::fs::remove_dir(&state).unwrap();
    }
}
