//! The Prometheus text exposition format, version 0.0.4, written from gathered families.
//!
//! Source: prometheus.io/docs/instrumenting/exposition_formats. Pure: families in, text out.

use std::fmt::Write;

use super::registry::{Gathered, Part, Sample};

/// The content type of what [`render`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every family with its `# HELP` and `# TYPE`, in the order given.
pub fn render(families: &[Gathered]) -> String {
    let samples: usize = families.iter().map(|family| family.samples.len()).sum();
    let mut text = String::with_capacity(families.len() * 128 + samples * 96);
    for family in families {
        text.push_str("# HELP ");
        text.push_str(family.name);
        text.push(' ');
        escape(&mut text, family.help, false);
        text.push_str("\n# TYPE ");
        text.push_str(family.name);
        text.push(' ');
        text.push_str(family.r#type.as_str());
        text.push('\n');
        for sample in &family.samples {
            line(&mut text, family.name, sample);
        }
    }
    text
}

fn line(text: &mut String, name: &str, sample: &Sample) {
    text.push_str(name);
    text.push_str(sample.part.suffix());
    let mut separator = '{';
    for (label, value) in sample.labels.iter() {
        text.push(separator);
        separator = ',';
        text.push_str(label);
        text.push_str("=\"");
        escape(text, value, true);
        text.push('"');
    }
    if let Part::Bucket(bound) = sample.part {
        text.push(separator);
        separator = ',';
        text.push_str("le=\"");
        number(text, bound);
        text.push('"');
    }
    text.push_str(if separator == ',' { "} " } else { " " });
    number(text, sample.value);
    text.push('\n');
}

/// Writes `value` with backslash and line feed escaped, and the quote where it would end a label.
fn escape(text: &mut String, value: &str, quoted: bool) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quoted => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

/// Writes a number as Go's `ParseFloat` reads it. Rust prints the shortest digits that read back
/// as the same number; only infinity has another name.
fn number(text: &mut String, value: f64) {
    let result = if value == f64::INFINITY {
        text.write_str("+Inf")
    } else if value == f64::NEG_INFINITY {
        text.write_str("-Inf")
    } else {
        write!(text, "{value}")
    };
    debug_assert!(result.is_ok(), "a String takes every write");
}

#[cfg(test)]
mod tests {
    use super::super::registry::{Collector, Counter, Registry};
    use super::*;
    use std::time::Duration;

    #[test]
    fn families_are_sorted_and_label_values_escaped() {
        let registry = Registry::new();
        registry.collect(Box::new(|collector: &mut Collector| {
            collector.gauge("b_bytes", "Bytes,\nsaid twice.", &[], 1.5);
        }));
        let family = registry.family::<Counter, 2>("a_total", "A \"thing\".", ["x", "y"]);
        family.with(["q\"\\\n", "é"]).increment();
        assert_eq!(
            render(&registry.gather(&|_| {})),
            "# HELP a_total A \"thing\".\n# TYPE a_total counter\n\
             a_total{x=\"q\\\"\\\\\\n\",y=\"é\"} 1\n\
             # HELP b_bytes Bytes,\\nsaid twice.\n# TYPE b_bytes gauge\nb_bytes 1.5\n"
        );
    }

    #[test]
    fn a_histogram_has_its_infinite_bucket_sum_and_count() {
        let registry = Registry::new();
        let family = registry.histograms("h_seconds", "H.", ["x"], &[0.25]);
        family.with(["1"]).observe(Duration::from_millis(100));
        let text = render(&registry.gather(&|_| {}));
        let lines: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "h_seconds_bucket{x=\"1\",le=\"0.25\"} 1",
                "h_seconds_bucket{x=\"1\",le=\"+Inf\"} 1",
                "h_seconds_sum{x=\"1\"} 0.1",
                "h_seconds_count{x=\"1\"} 1",
            ]
        );
    }
}
