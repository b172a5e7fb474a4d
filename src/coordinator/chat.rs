//! ChatCoordinator: runs everything but embeddings unless the caller picks another coordinator.

use crate::wire::Endpoint;

/// The name.
pub const NAME: &str = "ChatCoordinator";

/// Whether this coordinator is the one for an endpoint when the caller names none.
pub const fn runs(endpoint: Endpoint) -> bool {
    !matches!(endpoint, Endpoint::Embeddings)
}
