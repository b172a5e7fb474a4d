//! The checks, on whole texts: good ones and bad (`whole`), one with every fault (`faulty`), and
//! the reference that is shipped, as it is and damaged (`shipped`).

mod faulty;
mod shipped;
mod whole;
