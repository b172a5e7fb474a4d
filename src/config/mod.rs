//! The configuration: what was written ([`raw`]), what holds ([`checked`]), and how one becomes
//! the other with every fault named at its line and column.

pub mod checked;

pub use checked::CheckedConfig;
