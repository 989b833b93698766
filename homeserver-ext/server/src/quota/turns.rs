//! What one account has done at once: no more than so much, the rest in turn.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use causeway_protocol::ids::AccountId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

/// Requests of one account whose signatures are looked at together.
const CHECKS: usize = 2;
/// Requests of one account that are answered together.
const REQUESTS: usize = 4;

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    at_a_time: usize,
    taken: Mutex<HashMap<AccountId, Arc<Semaphore>>>,
}

impl Turns {
    /// For looking at signatures.
    pub(super) fn of_checks() -> Self {
        Self { at_a_time: CHECKS, taken: Mutex::default() }
    }

    /// For reading long bodies.
    pub(super) fn of_bodies() -> Self {
        Self { at_a_time: 1, taken: Mutex::default() }
    }

    /// For answering requests.
    pub(super) fn of_requests() -> Self {
        Self { at_a_time: REQUESTS, taken: Mutex::default() }
    }

    /// Waits for this account's turn, which lasts until it is dropped; and whether it had to.
    pub(super) async fn next(&self, who: &AccountId) -> (Option<OwnedSemaphorePermit>, bool) {
        let turn = self.turn(who);
        match Arc::clone(&turn).try_acquire_owned() {
            Ok(permit) => (Some(permit), false),
            // Nobody closes it.
            Err(_) => (turn.acquire_owned().await.ok(), true),
        }
    }

    /// Does `look` on a thread of its own, off those that serve everybody, in this account's turn.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        who: &AccountId,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let _held = self.next(who).await;
        match spawn_blocking(look).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The server stops, and this request with it.
            Err(_) => std::future::pending().await,
        }
    }

    /// Those that nobody waits for or holds are forgotten.
    fn turn(&self, who: &AccountId) -> Arc<Semaphore> {
        let mut turns = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        let new = || Arc::new(Semaphore::new(self.at_a_time));
        let turn = turns.entry(who.clone()).or_insert_with(new);
        Arc::clone(turn)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn two_of_one_account_are_looked_at_together_and_no_third() {
        let checks = Turns::of_checks();
        let (alice, bob): (AccountId, AccountId) =
            ("alice:a.example".parse().unwrap(), "bob:a.example".parse().unwrap());
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let looks = (0..8).map(|_| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            checks.run(&alice, move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                now.fetch_sub(1, Ordering::SeqCst);
            })
        });
        futures_util::future::join_all(looks).await;
        assert!((1..=CHECKS).contains(&most.load(Ordering::SeqCst)));
        // While both of Alice's turns are taken, Bob's come, and hers do not.
        let _first = checks.turn(&alice).acquire_owned().await.unwrap();
        let second = checks.turn(&alice).acquire_owned().await.unwrap();
        assert_eq!(checks.run(&bob, || 1).await, 1);
        let mut third = Box::pin(checks.run(&alice, || 2));
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(second);
        assert_eq!(third.await, 2);
        assert_eq!(checks.taken.lock().unwrap().len(), 1, "Bob's was forgotten");
    }
}
