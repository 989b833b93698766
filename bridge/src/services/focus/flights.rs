//! Whose a token is, asked once for all who ask at the same time, and not again where the answer was no.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use causeway_protocol::ids::Timestamp;
use ruma::{OwnedUserId, ServerName};
use tokio::sync::{Mutex as Turn, Semaphore};

use crate::{
    domain::ghost::digest,
    gateway::openid::{OpenId, OpenIdError},
};

/// Tokens that are remembered, or asked about.
const MAX: usize = 1_024;
/// Tokens that homeservers are asked about at once: ours, and all others together.
const AT_ONCE: usize = 16;
/// For how long an answer counts, in ms: that it is somebody's, for who asked at the same time; that
/// it is nobody's; that nobody answers.
const KNOWN_MS: u64 = 1_000;
const UNKNOWN_MS: u64 = 60_000;
const NO_ANSWER_MS: u64 = 5_000;

type Answer = Result<OwnedUserId, OpenIdError>;

/// An answer, and until when it counts.
type Entry = Arc<Turn<Option<(Timestamp, Answer)>>>;

/// What is known of tokens, by their digests.
#[derive(Debug)]
pub(super) struct Flights {
    known: Mutex<HashMap<[u8; 32], Entry>>,
    ours: Semaphore,
    /// Apart: a stranger's server that does not answer keeps nobody of ours waiting.
    others: Semaphore,
}

impl Default for Flights {
    fn default() -> Self {
        let places = || Semaphore::new(AT_ONCE);
        Self { known: Mutex::default(), ours: places(), others: places() }
    }
}

impl Flights {
    /// Whose a token of `server` is.
    pub(super) async fn whose(
        &self,
        openid: &OpenId,
        now: impl Fn() -> Timestamp + Send,
        (server, token): (&ServerName, &str),
    ) -> Answer {
        let entry = self.entry(digest(&[server.as_bytes(), token.as_bytes()]));
        let mut turn = entry.lock().await;
        if let Some((until, answer)) = turn.as_ref()
            && *until > now()
        {
            return answer.clone();
        }
        // Never closed.
        let places = if openid.is_ours(server) { &self.ours } else { &self.others };
        let _place = places.acquire().await;
        let answer = openid.whose(server, token).await;
        let ms = match &answer {
            Ok(_) => KNOWN_MS,
            Err(OpenIdError::NoAnswer(..) | OpenIdError::NoListener) => NO_ANSWER_MS,
            Err(OpenIdError::Unknown(_) | OpenIdError::Foreign(_) | OpenIdError::Private(_)) => {
                UNKNOWN_MS
            }
        };
        *turn = Some((now().plus_ms(ms), answer.clone()));
        answer
    }

    fn entry(&self, token: [u8; 32]) -> Entry {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX && !known.contains_key(&token) {
            // Those that nobody waits for: whoever asks again is answered anew.
            known.retain(|_, entry| Arc::strong_count(entry) > 1);
        }
        Arc::clone(known.entry(token).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ruma::server_name;

    use super::*;
    use crate::{
        gateway::{matrix::Matrix, public::Public},
        secret::Secret,
    };

    #[tokio::test]
    async fn servers_of_strangers_that_do_not_answer_keep_nobody_of_ours_waiting() {
        let ours = server_name!("b.example");
        let own = Matrix::new("http://127.0.0.1:9", Secret::new("as_token")).unwrap();
        let openid = OpenId::new(own, ours.to_owned(), Public::new(false).unwrap());
        let flights = Flights::default();
        let _all = flights.others.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap();
        let asked = flights.whose(&openid, || Timestamp(1), (ours, "token"));
        let answer = tokio::time::timeout(Duration::from_secs(30), asked).await;
        assert!(matches!(answer, Ok(Err(OpenIdError::NoAnswer(..)))), "{answer:?}");
    }
}
