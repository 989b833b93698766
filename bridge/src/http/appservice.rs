//! What the homeserver calls (spec v1.17, Application Service API).
//!
//! Nothing is judged here: what comes is stored and answered within milliseconds, because a
//! homeserver that crashes while it waits for us has forgotten what it was sending, and one
//! refused transaction stops its whole queue.

mod split;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Json,
    body::Body,
    extract::{ConnectInfo, Path, State},
    http::Request,
};
use causeway_store::Script;
use futures_util::StreamExt as _;
use serde_json::{Value, json, value::RawValue};

use super::{Http, Parts, auth::Homeserver, error::MatrixError};
use crate::{
    domain::{
        relay_room,
        suspicion::{Came, is_doubtful},
    },
    figures::TRANSACTION_SECONDS,
    steps::Step,
    storage::{self, inbox, quarantine, reading},
};

/// Most of a transaction: Synapse's largest legal one is about 25 MiB.
pub(super) const MAX_BODY: usize = 64 * 1024 * 1024;
/// Transactions read at once; a homeserver sends one at a time.
pub(super) const MAX_READERS: usize = 4;
/// Longest that one transaction may take to arrive.
const MAX_ARRIVAL: Duration = Duration::from_mins(1);

/// `PUT /_matrix/app/v1/transactions/{txn}` – takes events in; 200 means that they are on disk.
///
/// What cannot be parsed is put aside and answered with 200 too. The transaction id is no key:
/// Synapse counts from the beginning again after a crash, so events are told apart by their ids.
pub(super) async fn push_events(
    _: Homeserver,
    State(http): State<Arc<Http>>,
    Path(txn): Path<String>,
    connection: Option<Extension<ConnectInfo<Connection>>>,
    request: Request<Body>,
) -> Result<Json<Value>, MatrixError> {
    let began = tokio::time::Instant::now();
    let _reader = http.readers.acquire().await.map_err(|_| MatrixError::Stopping)?;
    let on_new_connection =
        connection.is_none_or(|Extension(ConnectInfo(connection))| connection.is_new());
    let body = match read(request.into_body()).await {
        Ok(body) => body,
        Err(error) => {
            // What we do not take may never come again.
            doubt(&http).await?;
            return Err(error);
        }
    };
    let accepted = accept(&http, &txn, on_new_connection, &body).await?;
    metrics::counter!("causeway_transactions_total").increment(1);
    for (outcome, count) in [
        ("new", accepted.new),
        ("repeated", accepted.repeated),
        ("quarantined", accepted.quarantined),
    ] {
        metrics::counter!("causeway_events_total", "outcome" => outcome).increment(count);
    }
    metrics::histogram!(TRANSACTION_SECONDS).record(began.elapsed());
    Ok(Json(json!({})))
}

/// `POST /_matrix/app/v1/ping` – the homeserver tries whether it reaches us (spec v1.7).
pub(super) async fn ping(_: Homeserver) -> Json<Value> {
    Json(json!({}))
}

/// `GET /_matrix/app/v1/users/{user}` – whether a user of our namespace exists.
///
/// Ghosts and the bot are made before anybody can meet them, so one that the homeserver has to ask
/// for does not exist.
pub(super) async fn query_user(_: Homeserver) -> MatrixError {
    MatrixError::NotFound
}

/// `GET /_matrix/app/v1/rooms/{alias}` – whether a room of our namespace exists; as with users.
pub(super) async fn query_alias(_: Homeserver) -> MatrixError {
    MatrixError::NotFound
}

/// Reads a body of at most [`MAX_BODY`] bytes.
async fn read(body: Body) -> Result<Vec<u8>, MatrixError> {
    let whole = async {
        let mut bytes = Vec::new();
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| MatrixError::Incomplete)?;
            if bytes.len() + chunk.len() > MAX_BODY {
                return Err(MatrixError::TooLarge(MAX_BODY));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    // Whoever is too slow, or has gone, sends it again.
    tokio::time::timeout(MAX_ARRIVAL, whole).await.unwrap_or(Err(MatrixError::Incomplete))
}

/// Has the homeserver's own account read before anything else is routed.
async fn doubt(http: &Http) -> Result<(), storage::Error> {
    let mut script = Script::default();
    reading::doubt(&mut script);
    http.parts.db.write(script, vec![reading::TOPIC.to_owned()]).await?;
    Ok(())
}

/// A connection, which is the homeserver's once something of it has come there.
#[derive(Clone)]
pub struct Connection(Arc<Line>);

struct Line {
    is_used: AtomicBool,
    ended: Box<dyn Fn() + Send + Sync>,
}

impl Connection {
    /// `ended` is called at the end of it, if it was the homeserver's.
    pub fn new(ended: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(Line { is_used: AtomicBool::new(false), ended: Box::new(ended) }))
    }

    /// Whether nothing has come on it yet; something has, from now on.
    fn is_new(&self) -> bool {
        !self.0.is_used.swap(true, Ordering::Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if *self.is_used.get_mut() {
            (self.ended)();
        }
    }
}

/// One transaction of ours for one of theirs: everything in it is stored, or nothing is answered.
async fn accept(
    http: &Http,
    txn: &str,
    on_new_connection: bool,
    body: &[u8],
) -> Result<inbox::Accepted, storage::Error> {
    let pieces = split::split(body);
    let mut events = Vec::with_capacity(pieces.events.len());
    let mut aside: Vec<(&str, &[u8])> = Vec::new();
    for piece in pieces.events {
        match serde_json::from_slice::<Box<RawValue>>(piece) {
            // The agent has it of its own account, and needs it nowhere else.
            Ok(event) if relay_room::is_carried(&event) => {}
            Ok(event) => events.push(event),
            Err(_) => aside.push(("an event that is not JSON", piece)),
        }
    }
    let too_many = events.len() + aside.len() == split::MAX_EVENTS;
    if pieces.rest.is_some() && !too_many {
        // Whole, because where it stops making sense need not be where the fault is.
        aside.push(("a transaction that is not JSON, or was cut off", body));
    }
    let Parts { db, sealer, clock, steps, encryption, .. } = &http.parts;
    // From here on nothing more goes into a room that it makes encrypted.
    for event in &events {
        encryption.heard(event.get());
    }
    let now = clock();
    let came = Came { txn, on_new_connection, whole: aside.is_empty() && !too_many };
    let is_doubted = is_doubtful(http.last().as_deref(), came);
    if aside.is_empty()
        && !is_doubted
        && let Some(accepted) = http.parts.straight.accept(now, &events).await
    {
        *http.last() = Some(txn.to_owned());
        steps.reached(Step::Accepted).await;
        return Ok(accepted);
    }
    let mut intake = inbox::accept(sealer, now, is_doubted, &events)?;
    aside.extend(intake.unread.iter().map(|(reason, raw)| (&**reason, raw.get().as_bytes())));
    let script = std::mem::take(&mut intake.script);
    let rows = if aside.is_empty() {
        steps.reached(Step::Accepting).await;
        db.write_growing(script, std::mem::take(&mut intake.topics)).await?
    } else {
        let mut tx = db.begin_growing().await?;
        for (reason, bytes) in &aside {
            quarantine::put(&mut tx, sealer, now, None, reason, bytes).await?;
        }
        for topic in intake.topics.drain(..) {
            tx.wake(topic);
        }
        steps.reached(Step::Accepting).await;
        tx.commit_with(script).await?
    };
    // Not before: one that was not taken in is no reason to believe the next.
    *http.last() = Some(txn.to_owned());
    steps.reached(Step::Accepted).await;
    let quarantined = aside.len() as u64;
    if quarantined > 0 {
        tracing::warn!(count = quarantined, "put aside what could not be parsed");
    }
    Ok(inbox::Accepted { quarantined, ..intake.accepted(&rows) })
}
