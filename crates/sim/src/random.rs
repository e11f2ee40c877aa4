//! The one source of chance: everything that may differ between two runs is drawn from here, and so from the seed.

use model::{IdSource, Millis};

#[derive(Clone, Debug)]
pub(crate) struct Random(IdSource);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(IdSource::new(seed))
    }

    /// A source of its own for a part of the world, so that what one part draws does not depend on the others.
    pub(crate) fn fork(&mut self) -> Random {
        Random::new(self.0.next_u64())
    }

    pub(crate) fn seed(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// At least `low`, at most `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "nothing lies between {low} and {high}");
        low + self.0.next_u64() % (high - low + 1)
    }

    pub(crate) fn millis(&mut self, low: u64, high: u64) -> Millis {
        Millis(self.between(low, high))
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.between(1, n) == 1
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.between(0, from.len() as u64 - 1) as usize]
    }
}
