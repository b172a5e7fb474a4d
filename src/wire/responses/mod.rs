//! The codec of OpenAI's responses, for callers only: no provider is spoken to in it.
