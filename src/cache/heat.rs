//! How much an entry is in use: its uses, of which each counts half as much after an hour.
//!
//! The decay is exponential, so it can be made up for when an entry is looked at, and nothing
//! walks the cache for it.

/// After so many seconds a use counts half.
pub const HALF_LIFE_SECONDS: f32 = 3600.0;

/// What is left of a score after that time.
pub fn decay(passed: std::time::Duration) -> f64 {
    (-passed.as_secs_f64() / f64::from(HALF_LIFE_SECONDS)).exp2()
}

/// Decayed uses, as of a second.
#[derive(Clone, Copy, Debug)]
pub struct Heat {
    uses: f32,
    /// Since the cache began.
    second: u32,
}

impl Heat {
    /// No use yet.
    pub const fn new(second: u32) -> Self {
        Self { uses: 0.0, second }
    }

    /// One use more.
    pub fn hit(&mut self, second: u32) {
        // What is used most is used again within the same second, and costs no power.
        if second != self.second {
            self.uses = self.at(second);
            self.second = second.max(self.second);
        }
        self.uses += 1.0;
    }

    /// The decayed uses at that time.
    pub fn at(&self, second: u32) -> f32 {
        let passed = second.saturating_sub(self.second) as f32;
        self.uses * (-passed / HALF_LIFE_SECONDS).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_counts_half_after_an_hour() {
        let mut heat = Heat::new(10);
        heat.hit(10);
        heat.hit(10);
        assert_eq!(heat.at(10), 2.0);
        assert_eq!(heat.at(3610), 1.0);
        heat.hit(3610);
        assert_eq!(heat.at(7210), 1.0);
        assert_eq!(heat.at(0), 2.0, "a clock that is late decays nothing");
    }
}
