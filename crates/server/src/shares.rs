//! So much of something at once for each who asks for it: one that asks for ever more waits for itself, and nobody else does.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::Semaphore;

/// Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Shares<K> {
    each: usize,
    held: Arc<Mutex<Held<K>>>,
}

#[derive(Debug)]
struct Held<K> {
    /// Of everybody who holds something, or waits to; and of some who did.
    shares: HashMap<K, Weak<Semaphore>>,
    /// With so many it is worth it to look whose may be forgotten.
    many: usize,
}

impl<K: Eq + Hash> Shares<K> {
    pub(crate) fn new(each: usize) -> Shares<K> {
        Shares { each, held: Arc::new(Mutex::new(Held { shares: HashMap::new(), many: 0 })) }
    }

    /// Kept for as long as anybody holds a place of it, or waits for one.
    pub(crate) fn of(&self, who: K) -> Arc<Semaphore> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = held.shares.get(&who).and_then(Weak::upgrade) {
            return share;
        }
        if held.shares.len() >= held.many {
            held.shares.retain(|_, share| share.strong_count() > 0);
            held.many = 2 * held.shares.len();
        }
        let share = Arc::new(Semaphore::new(self.each));
        held.shares.insert(who, Arc::downgrade(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_one_for_all_who_hold_of_it_and_is_forgotten_after_them() {
        let shares = Shares::new(1);
        let one = shares.of(1).try_acquire_owned().unwrap();
        assert!(shares.of(1).try_acquire_owned().is_err());
        assert!(shares.clone().of(2).try_acquire_owned().is_ok());
        drop(one);
        assert!(shares.of(1).try_acquire_owned().is_ok());
        let held: Vec<_> = (0..100).map(|who| shares.of(who)).collect();
        drop(held);
        (100..300).for_each(|who| drop(shares.of(who)));
        assert!(shares.held.lock().unwrap().shares.len() < 100, "what nobody holds is forgotten");
    }
}
