//! Looking at many signatures: off the threads that serve everybody, and for each account in turn.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use causeway_protocol::ids::AccountId;
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Requests of one account whose signatures are looked at together.
const AT_A_TIME: usize = 2;

/// Whose signatures are being looked at.
#[derive(Debug, Default)]
pub(super) struct Checks(Mutex<HashMap<AccountId, Arc<Semaphore>>>);

impl Checks {
    /// Does `look` on a thread of its own, when fewer than two of this account's are being done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        who: &AccountId,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        // Nobody closes it.
        let _held = self.turn(who).acquire_owned().await.ok();
        match spawn_blocking(look).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The server stops, and this request with it.
            Err(_) => std::future::pending().await,
        }
    }

    /// Those that nobody waits for or holds are forgotten.
    fn turn(&self, who: &AccountId) -> Arc<Semaphore> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        let turn = turns.entry(who.clone()).or_insert_with(|| Arc::new(Semaphore::new(AT_A_TIME)));
        Arc::clone(turn)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn two_of_one_account_are_looked_at_together_and_no_third() {
        let checks = Checks::default();
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
        assert!((1..=AT_A_TIME).contains(&most.load(Ordering::SeqCst)));
        // While both of Alice's turns are taken, Bob's come, and hers do not.
        let _first = checks.turn(&alice).acquire_owned().await.unwrap();
        let second = checks.turn(&alice).acquire_owned().await.unwrap();
        assert_eq!(checks.run(&bob, || 1).await, 1);
        let mut third = Box::pin(checks.run(&alice, || 2));
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(second);
        assert_eq!(third.await, 2);
        assert_eq!(checks.0.lock().unwrap().len(), 1, "Bob's was forgotten");
    }
}
