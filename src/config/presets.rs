//! What a provider's name implies: the vendors' documented base URLs and key variables.
//!
//! A preset is only a default: every part of it can be written in the configuration, and a
//! provider of another name needs no preset, only `kind` and `base_url`.

use super::checked::{KeyHeader, Kind};

/// What is known about a provider by its name alone.
#[derive(Debug)]
pub(super) struct Preset {
    pub name: &'static str,
    pub kind: Kind,
    /// `None`: differs for each customer and must be written.
    pub base_url: Option<&'static str>,
    /// The environment variable that the vendor's own SDK reads; `None`: no key is needed.
    pub key_variable: Option<&'static str>,
    pub key_header: KeyHeader,
}

const fn openai(name: &'static str, base_url: &'static str, variable: &'static str) -> Preset {
    Preset {
        name,
        kind: Kind::Openai,
        base_url: Some(base_url),
        key_variable: Some(variable),
        key_header: KeyHeader::Bearer,
    }
}

const fn local(name: &'static str, base_url: &'static str) -> Preset {
    Preset {
        key_variable: None,
        ..openai(name, base_url, "")
    }
}

/// Every known name. Sources: each vendor's API reference, the page on OpenAI compatibility.
pub(super) const PRESETS: &[Preset] = &[
    // https://docs.anthropic.com/en/api/overview
    Preset {
        name: "anthropic",
        kind: Kind::Anthropic,
        base_url: Some("https://api.anthropic.com"),
        key_variable: Some("ANTHROPIC_API_KEY"),
        key_header: KeyHeader::XApiKey,
    },
    openai("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    // https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle: the v1 API,
    // https://RESOURCE.openai.azure.com/openai/v1
    Preset {
        base_url: None,
        key_header: KeyHeader::ApiKey,
        ..openai("azure", "", "AZURE_OPENAI_API_KEY")
    },
    local("ollama", "http://localhost:11434/v1"),
    local("vllm", "http://localhost:8000/v1"),
    openai("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    openai("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    openai("deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
    openai("xai", "https://api.x.ai/v1", "XAI_API_KEY"),
    openai("together", "https://api.together.ai/v1", "TOGETHER_API_KEY"),
    openai(
        "openrouter",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
    ),
    openai(
        "fireworks",
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
    ),
    openai(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
    ),
    Preset {
        name: SIMULATOR,
        kind: Kind::Simulator,
        base_url: None,
        key_variable: None,
        key_header: KeyHeader::Bearer,
    },
];

/// The name of the built-in simulator as a provider.
pub(super) const SIMULATOR: &str = "simulator";

/// The preset of that name.
pub(super) fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}
