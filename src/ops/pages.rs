//! What the ops plane says, by path. Pure but for the sources it asks.

use super::Sources;
use crate::thread;

/// An answer before tiny_http dresses it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

/// Prometheus' text exposition format, version 0.0.4.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON_TYPE: &str = "application/json";
const HTML_TYPE: &str = "text/html; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// The answer to a GET of `target`.
pub(super) fn page(target: &str, sources: &Sources) -> Page {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    match path {
        "/" => Page {
            status: 200,
            content_type: HTML_TYPE,
            body: status_page(env!("CARGO_PKG_VERSION"), thread::uptime_ms() / 1000).into_bytes(),
        },
        "/metrics" => Page {
            status: 200,
            content_type: METRICS_TYPE,
            body: (sources.metrics)().into_bytes(),
        },
        _ if path.starts_with("/api/v1/") => no_query_api(),
        _ if path.starts_with("/health") => {
            (sources.health)(path).map_or_else(not_found, |(status, body)| Page {
                status,
                content_type: JSON_TYPE,
                body,
            })
        }
        _ => not_found(),
    }
}

/// An answer for what broke on our side.
pub(super) fn broken() -> Page {
    text(500, "The source of this page failed; the log says why.\n")
}

fn not_found() -> Page {
    text(
        404,
        "Not found. Here are /metrics, /health, /health/live, /health/ready and \
         /health/detailed.\n",
    )
}

/// In the shape of errors of Prometheus' HTTP API.
fn no_query_api() -> Page {
    Page {
        status: 404,
        content_type: JSON_TYPE,
        body: br#"{"status":"error","errorType":"not_found","error":"this version answers no queries: scrape /metrics with Prometheus and ask it"}"#
            .to_vec(),
    }
}

fn text(status: u16, body: &str) -> Page {
    Page {
        status,
        content_type: TEXT_TYPE,
        body: body.as_bytes().to_vec(),
    }
}

fn status_page(version: &str, uptime_seconds: u64) -> String {
    let links: String = [
        ("/metrics", "metrics"),
        ("/health", "health"),
        ("/health/live", "liveness"),
        ("/health/ready", "readiness"),
        ("/health/detailed", "health in detail"),
    ]
    .iter()
    .map(|(path, name)| {
        format!(
            "<li><a href=\"{}\">{}</a></li>\n",
            escape(path),
            escape(name)
        )
    })
    .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>victor</title>\
         </head>\n<body>\n<h1>victor {}</h1>\n<p>Process {}, up {} s.</p>\n<ul>\n{links}</ul>\n\
         </body>\n</html>\n",
        escape(version),
        std::process::id(),
        uptime_seconds,
    )
}

/// Text for HTML, in elements and in quoted attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Sources {
        Sources {
            metrics: Box::new(|| "up 1\n".to_owned()),
            health: Box::new(|path| (path == "/health/live").then(|| (503, b"{}".to_vec()))),
        }
    }

    #[test]
    fn each_path_has_its_page() {
        let check = |target: &str, status: u16, content_type: &str| {
            let page = page(target, &sources());
            assert_eq!(
                (page.status, page.content_type),
                (status, content_type),
                "{target}"
            );
        };
        check("/", 200, HTML_TYPE);
        check("/metrics", 200, METRICS_TYPE);
        check("/metrics?x=1", 200, METRICS_TYPE);
        check("/metrics/", 404, TEXT_TYPE);
        check("/health/live?verbose", 503, JSON_TYPE);
        check("/healthy", 404, TEXT_TYPE);
        check("/api/v1/query?query=up", 404, JSON_TYPE);
        check("/favicon.ico", 404, TEXT_TYPE);
    }

    #[test]
    fn the_query_error_is_json() {
        let body: serde_json::Value = serde_json::from_slice(&no_query_api().body).unwrap();
        assert_eq!(body["status"], "error");
    }

    #[test]
    fn html_is_escaped() {
        assert_eq!(
            escape("<a href=\"x\">&'"),
            "&lt;a href=&quot;x&quot;&gt;&amp;&#39;"
        );
        assert!(status_page("0.1<b>", 1).contains("victor 0.1&lt;b&gt;"));
    }
}
