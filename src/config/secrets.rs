//! Values that come from elsewhere: `${ENV}`, `file:/path`, `credential:NAME`.
//!
//! `${ENV}` is filled in anywhere in any value; the other two stand for a whole secret. No error
//! here ever holds a value, only the names of what was looked for: a key written in the wrong
//! place must not end in a log.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::checked::Secret;
use super::fault::shown;

/// Looks an environment variable up.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The largest file that is read for a secret, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;
/// The longest value that filling in may give, in bytes.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// Fills in `${NAME}` and `${NAME:-default}`; `$${` stands for `${` itself. As in a shell, the
/// default also takes the place of an empty variable. `None`: there was nothing to fill in.
///
/// # Errors
/// What is wrong, without any value.
pub(super) fn fill_in(text: &str, env: Env<'_>) -> Result<Option<String>, String> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        out.push_str(before);
        let Some(end) = from.find('}') else {
            return Err("`${` has no closing brace".to_owned());
        };
        let inner = &from[2..end];
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if !is_variable(name) {
            return Err("`${…}` does not hold the name of a variable".to_owned());
        }
        let value = env(name).filter(|value| default.is_none() || !value.is_empty());
        match value.as_deref().or(default) {
            Some(value) => out.push_str(value),
            None => {
                return Err(format!(
                    "the environment variable {} is not set",
                    shown(name)
                ));
            }
        }
        if out.len() > VALUE_BYTES_MAX {
            return Err("is too long once the environment is filled in".to_owned());
        }
        rest = &from[end + 1..];
    }
    out.push_str(rest);
    Ok(Some(out))
}

fn is_variable(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Reads the secret that `text` is or refers to. `None`: an empty value, which is no secret.
///
/// # Errors
/// What is wrong, without the value.
pub(super) fn resolve(text: &str, env: Env<'_>) -> Result<Option<Secret>, String> {
    let value = if let Some(path) = text.strip_prefix("file:") {
        read_file(Path::new(path))?
    } else if let Some(name) = text.strip_prefix("credential:") {
        let named = name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !named || name.is_empty() || name.starts_with('.') {
            return Err("`credential:` is not followed by the name of a credential".to_owned());
        }
        let folder = env("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty());
        let Some(folder) = folder else {
            return Err(format!(
                "the credential {} cannot be read: CREDENTIALS_DIRECTORY is not set, which \
                 systemd does for `LoadCredential`",
                shown(name)
            ));
        };
        read_file(&Path::new(&folder).join(name))?
    } else {
        text.to_owned()
    };
    if value.is_empty() {
        return Ok(None);
    }
    // It will be part of a header (RFC 9110, section 5.5); white space inside a key is a slip.
    if !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("the secret holds white space or characters other than ASCII".to_owned());
    }
    Ok(Some(Secret::new(value)))
}

/// The text of a regular file, without the line end that editors leave.
fn read_file(path: &Path) -> Result<String, String> {
    let name = shown(&path.display().to_string());
    let metadata = std::fs::metadata(path)
        .map_err(|error| format!("the secret file {name} cannot be read: {error}"))?;
    // Before it is opened: opening a pipe would wait for its writer.
    if !metadata.is_file() {
        return Err(format!("the secret file {name} is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("the secret file {name} cannot be read: {error}"))?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!(
            "the secret file {name} is over {SECRET_BYTES_MAX} bytes"
        ));
    }
    let text =
        String::from_utf8(bytes).map_err(|_| format!("the secret file {name} is not text"))?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(format!("the secret file {name} is empty"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "KEY" => Some("k1".into()),
            "EMPTY" => Some(String::new()),
            "CREDENTIALS_DIRECTORY" => Some("/nonexistent".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_filled_in_as_a_shell_would() {
        fn check(text: &str, expected: Result<Option<&str>, &str>) {
            let filled = fill_in(text, &env);
            match expected {
                Ok(expected) => assert_eq!(filled.as_ref().map(|f| f.as_deref()), Ok(expected)),
                Err(part) => assert!(filled.unwrap_err().contains(part), "{text}"),
            }
        }
        check("plain $KEY {}", Ok(None));
        check("${KEY}", Ok(Some("k1")));
        check("a-${KEY}-${KEY}/", Ok(Some("a-k1-k1/")));
        check("${NONE:-d e}", Ok(Some("d e")));
        check("${NONE:-}", Ok(Some("")));
        check("${EMPTY:-d}", Ok(Some("d")));
        check("${EMPTY}", Ok(Some("")));
        check("$${KEY} é${KEY}", Ok(Some("${KEY} ék1")));
        check("${NONE}", Err("NONE is not set"));
        check("${KEY", Err("closing"));
        check("${}", Err("name"));
        check("${sk-secret}", Err("does not hold"));
    }

    #[test]
    fn files_are_trimmed_and_must_be_regular() {
        let path = std::env::temp_dir().join(format!("victor-secret-{}", std::process::id()));
        let reference = format!("file:{}", path.display());
        std::fs::write(&path, "s3cret\r\n").unwrap();
        assert_eq!(resolve(&reference, &env), Ok(Some(Secret::new("s3cret"))));
        std::fs::write(&path, "\n").unwrap();
        assert!(resolve(&reference, &env).unwrap_err().contains("empty"));
        std::fs::write(&path, "two words").unwrap();
        assert!(!resolve(&reference, &env).unwrap_err().contains("words"));
        std::fs::remove_file(&path).unwrap();
        for text in [
            &*reference,
            "file:/",
            "credential:a",
            "credential:../x",
            "credential:",
        ] {
            assert!(resolve(text, &env).is_err(), "{text}");
        }
        assert_eq!(resolve("", &env), Ok(None));
    }
}
