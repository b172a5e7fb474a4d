//! In the making.
pub mod pool;
