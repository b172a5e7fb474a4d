//! Beginning anew with a provider, without losing a call: what an operator asks for once its
//! server, its address or its keys have changed.
//!
//! Calls that run keep their connections to their end; nothing here waits for them, and none is
//! cancelled. What the provider was told by configuration stays as it is.

use std::time::Instant;

use serde::Serialize;

use super::{Provider, Via};

/// What a restart did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Restarted {
    /// Idle connections that were closed.
    pub connections_closed: usize,
    /// Calls that run, each on a connection that is closed with its end.
    pub connections_in_use: usize,
    /// Names whose addresses will be looked up anew.
    pub names_forgotten: usize,
    /// Circuit breakers that were not closed and now are.
    pub breakers_closed: usize,
    /// Keys that rested or were retired and are usable again.
    pub keys_restored: usize,
}

impl Provider {
    /// Closes idle connections, lets no connection in use be used again, looks names up anew,
    /// closes the breakers and forgets what keys were refused. The rate limit goes on, and so do
    /// TLS settings and certificates: they are read at start.
    pub fn restart(&self) -> Restarted {
        // Names first: a connection that is opened from here on must not go to an old address.
        let names_forgotten = match &self.via {
            Via::Http(upstream) => upstream.forget_addresses(),
            Via::Simulator(_) => 0,
        };
        let (idle, connections_in_use) = self.permits.renew();
        let connections_closed = idle.len();
        for client in idle {
            client.agent.shutdown();
        }
        let (breakers_closed, keys_restored) = self.governor.reset(Instant::now());
        Restarted {
            connections_closed,
            connections_in_use,
            names_forgotten,
            breakers_closed,
            keys_restored,
        }
    }
}
