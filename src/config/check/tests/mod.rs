//! The checks, on whole texts: good ones and bad (`whole`), one with every fault (`faulty`),
//! the keys of providers (`keys`), routes (`routes`), and the reference that is shipped, as it is
//! and damaged (`shipped`).

mod faulty;
mod keys;
mod routes;
mod shipped;
mod whole;
