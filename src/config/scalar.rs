//! From the text of one value to a number, a boolean or a time. Pure.
//!
//! YAML 1.2's core schema (YAML 1.2.2, section 10.3) says what a number is. What people write
//! in its place (`30s`, `256MB`, `yes`, `"30"`) is told from mere nonsense, so that the fault
//! can say what was probably meant. It must never guess and go on.

/// One value as it was written.
#[derive(Debug)]
pub(super) struct Scalar {
    /// With `${ENV}` filled in.
    pub text: String,
    /// For faults: as it was written, in backticks.
    pub shown: String,
    /// Not in quotes (or filled in from the environment), so that it may be a number.
    pub plain: bool,
}

/// Why a value is not what was expected, and what may have been meant.
#[derive(Debug, PartialEq)]
pub(super) struct Wrong {
    pub message: String,
    pub suggestion: Option<String>,
}

impl Wrong {
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            suggestion: None,
        }
    }

    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
    Mebibytes,
    /// Things, or calls a second.
    Plain,
}

/// The values that a number may take, ends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub min: f64,
    pub max: f64,
    pub unit: Unit,
    pub whole: bool,
}

impl Bounds {
    /// From a millisecond to a day: none of the waits of a call is zero or endless.
    pub const TIMEOUT: Self = Self {
        min: 0.001,
        max: 86_400.0,
        unit: Unit::Seconds,
        whole: false,
    };

    pub const fn count(min: u32, max: u32) -> Self {
        Self {
            min: min as f64,
            max: max as f64,
            unit: Unit::Plain,
            whole: true,
        }
    }

    pub const fn of(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    /// The end of the sentence "…, expected".
    pub fn expected(self) -> String {
        let kind = match (self.whole, self.unit) {
            (false, Unit::Seconds) => "a plain number of seconds",
            (true, Unit::Seconds) => "a whole number of seconds",
            (_, Unit::Milliseconds) => "a whole number of milliseconds",
            (_, Unit::Mebibytes) => "a whole number of mebibytes",
            (true, Unit::Plain) => "a whole number",
            (false, Unit::Plain) => "a number",
        };
        format!("{kind} from {} to {}", self.min, self.max)
    }
}

/// Reads a number within `bounds`.
pub(super) fn number(scalar: &Scalar, bounds: Bounds) -> Result<f64, Wrong> {
    let text = scalar.text.trim();
    let shown = &scalar.shown;
    if !scalar.plain {
        let wrong = Wrong::new(format!("the text {shown} is not a number"));
        return Err(match parse_number(text) {
            Some(_) => wrong.suggest(format!("{text} without quotes")),
            None => wrong,
        });
    }
    let Some(value) = parse_number(text) else {
        return Err(not_a_number(text, shown, bounds));
    };
    if value.is_nan() {
        return Err(Wrong::new(format!("{shown} is not a number")));
    }
    if value < bounds.min || value > bounds.max {
        return Err(Wrong::new(format!("{shown} is out of range")));
    }
    if bounds.whole && (value.fract() != 0.0 || text.contains(['.', 'e', 'E']) && !is_hex(text)) {
        return Err(Wrong::new(format!("{shown} is not a whole number")));
    }
    Ok(value)
}

fn is_hex(text: &str) -> bool {
    text.starts_with("0x")
}

/// A number by YAML's core schema; NaN stands for itself.
fn parse_number(text: &str) -> Option<f64> {
    let radix = |digits: &str, radix| {
        let digits = (!digits.starts_with(['+', '-'])).then_some(digits)?;
        Some(u64::from_str_radix(digits, radix).ok()? as f64)
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" if text.starts_with('-') => return Some(f64::NEG_INFINITY),
        ".inf" | ".Inf" | ".INF" => return Some(f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    // Rust's own parser also takes `inf`, `nan` and `infinity`, which YAML holds to be text.
    let digits = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let allowed = text.bytes().all(|b| b"0123456789+-.eE".contains(&b));
    (digits && allowed).then(|| text.parse().ok()).flatten()
}

fn not_a_number(text: &str, shown: &str, bounds: Bounds) -> Wrong {
    if super::tree::is_null(text) {
        return Wrong::new("has no value");
    }
    let joined = text.replace('_', "");
    if joined != text && parse_number(&joined).is_some() {
        return Wrong::new(format!("{shown} is not a number")).suggest(joined);
    }
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c)))
        .unwrap_or(text.len());
    let (Some(value), suffix) = (parse_number(&text[..digits]), text[digits..].trim()) else {
        return Wrong::new(format!("{shown} is not a number"));
    };
    let wrong = Wrong::new(format!("{shown} carries a unit"));
    match factor(suffix, bounds.unit) {
        Some(factor) => {
            // Rounded to nine decimals, so that 0.1 × 3 does not read 0.30000000000000004.
            let meant = (value * factor * 1e9).round() / 1e9;
            let fits = meant >= bounds.min && meant <= bounds.max;
            if fits && (!bounds.whole || meant.fract() == 0.0) {
                wrong.suggest(meant.to_string())
            } else {
                wrong
            }
        }
        None => Wrong::new(format!("{shown} is not a number")),
    }
}

/// How many of `unit` one of `suffix` is.
fn factor(suffix: &str, unit: Unit) -> Option<f64> {
    let suffix = suffix.to_ascii_lowercase();
    let seconds = match suffix.as_str() {
        "us" | "µs" => 1e-6,
        "ms" | "msec" | "millis" | "milliseconds" => 1e-3,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => 0.0,
    };
    let mebibytes = match suffix.as_str() {
        "k" | "kb" | "kib" => 1.0 / 1024.0,
        "m" | "mb" | "mib" => 1.0,
        "g" | "gb" | "gib" => 1024.0,
        "t" | "tb" | "tib" => 1_048_576.0,
        _ => 0.0,
    };
    let factor = match unit {
        Unit::Seconds => seconds,
        Unit::Milliseconds => seconds * 1000.0,
        Unit::Mebibytes => mebibytes,
        Unit::Plain => match suffix.as_str() {
            "%" => 0.01,
            "k" => 1000.0,
            "/s" | "rps" => 1.0,
            _ => 0.0,
        },
    };
    (factor > 0.0).then_some(factor)
}

/// Reads `true` or `false`.
pub(super) fn boolean(scalar: &Scalar) -> Result<bool, Wrong> {
    let shown = &scalar.shown;
    match scalar.text.trim() {
        "true" | "True" | "TRUE" if scalar.plain => return Ok(true),
        "false" | "False" | "FALSE" if scalar.plain => return Ok(false),
        text if scalar.plain && super::tree::is_null(text) => {
            return Err(Wrong::new("has no value"));
        }
        _ => {}
    }
    let wrong = Wrong::new(format!("{shown} is neither"));
    Err(match scalar.text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "y" | "1" | "true" => wrong.suggest("true"),
        "no" | "off" | "n" | "0" | "false" => wrong.suggest("false"),
        _ => wrong,
    })
}

/// Reads one of `names`, in any case.
pub(super) fn choice<T: Copy>(scalar: &Scalar, names: &[(&str, T)]) -> Result<T, Wrong> {
    let text = scalar.text.trim();
    if scalar.plain && super::tree::is_null(text) {
        return Err(Wrong::new("has no value"));
    }
    if let Some((_, value)) = names
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
    {
        return Ok(*value);
    }
    let wrong = Wrong::new(format!("{} is not known", scalar.shown));
    Err(
        match super::fault::nearest(text, names.iter().map(|(name, _)| *name)) {
            Some(name) => wrong.suggest(name),
            None => wrong,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(text: &str, plain: bool) -> Scalar {
        Scalar {
            text: text.into(),
            shown: format!("`{text}`"),
            plain,
        }
    }

    #[test]
    fn numbers_are_yaml_numbers_within_bounds() {
        fn check(text: &str, bounds: Bounds, expected: Option<f64>) {
            assert_eq!(number(&scalar(text, true), bounds).ok(), expected, "{text}");
        }
        let (seconds, count) = (Bounds::TIMEOUT, Bounds::count(1, 1000));
        check("30", seconds, Some(30.0));
        check("0.5", seconds, Some(0.5));
        check("1e2", seconds, Some(100.0));
        check("0x1e", count, Some(30.0));
        check("0o17", count, Some(15.0));
        for text in [
            "0", "-1", "86401", ".nan", ".inf", "-.inf", "nan", "inf", "1e999", "", "~", "1_000",
            "30s", "--1", "1-1", "0x-1", "e", ".",
        ] {
            check(text, seconds, None);
        }
        check("2.5", count, None);
        check("2.0", count, None);
        check("99999999999999999999999999", count, None);
    }

    #[test]
    fn a_unit_is_named_and_converted() {
        fn check(text: &str, bounds: Bounds, expected: Option<&str>) {
            let wrong = number(&scalar(text, true), bounds).unwrap_err();
            assert_eq!(wrong.suggestion.as_deref(), expected, "{wrong:?}");
        }
        let millis = Bounds::count(1, 60_000).of(Unit::Milliseconds);
        check("30s", Bounds::TIMEOUT, Some("30"));
        check("500 ms", Bounds::TIMEOUT, Some("0.5"));
        check("2m", Bounds::TIMEOUT, Some("120"));
        check("9d", Bounds::TIMEOUT, None);
        check("1s", millis, Some("1000"));
        check(
            "1GB",
            Bounds::count(1, 5000).of(Unit::Mebibytes),
            Some("1024"),
        );
        check("10_000", Bounds::count(1, 50_000), Some("10000"));
        check("abc", Bounds::TIMEOUT, None);
        let quoted = number(&scalar("30", false), Bounds::TIMEOUT).unwrap_err();
        assert_eq!(quoted.suggestion.as_deref(), Some("30 without quotes"));
    }

    #[test]
    fn booleans_are_true_and_false_only() {
        assert_eq!(boolean(&scalar("true", true)), Ok(true));
        assert_eq!(boolean(&scalar("False", true)), Ok(false));
        for (text, plain, meant) in [
            ("yes", true, "true"),
            ("0", true, "false"),
            ("true", false, "true"),
        ] {
            let wrong = boolean(&scalar(text, plain)).unwrap_err();
            assert_eq!(wrong.suggestion.as_deref(), Some(meant));
        }
    }
}
