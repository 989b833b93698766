//! Dead letters: what was given up, to be tried once more or forgotten.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use causeway_server::admin::{Admin, Path, Problem, ProblemBody, Query, checked, next};
use serde::Serialize;
use utoipa::ToSchema;

use super::page::Page;
use crate::{
    http::Http,
    storage::dead_letters::{self, Replayed},
};

/// How long a dead letter is tried once more.
const REPLAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// A page of dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct DeadLetters {
    /// Oldest first.
    dead_letters: Vec<dead_letters::DeadLetter>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// `GET /_causeway/admin/v1/dead-letters` – what was given up and why, oldest first.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/dead-letters", tag = "queues", params(Page),
    responses((status = 200, body = DeadLetters), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(in crate::http) async fn dead_letters(
    _: Admin,
    State(http): State<Arc<Http>>,
    Query(page): Query<Page>,
) -> Result<Json<DeadLetters>, Problem> {
    let limit = checked(page.limit)?;
    let mut read = http.parts.db.read().await.map_err(crate::storage::Error::from)?;
    let dead_letters = dead_letters::list(&mut read, page.after, limit).await?;
    let next = next(dead_letters.len(), limit, dead_letters.last().map(|letter| letter.id));
    Ok(Json(DeadLetters { dead_letters, next }))
}

/// `POST /_causeway/admin/v1/dead-letters/{id}/retry` – puts it back at the end of its lane; 202.
///
/// Whoever delivers it looks first whether it arrived after all.
#[utoipa::path(
    post, path = "/_causeway/admin/v1/dead-letters/{id}/retry", tag = "queues",
    params(("id" = i64, Path, description = "Its id in the list")),
    responses((status = 202), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(in crate::http) async fn retry_dead_letter(
    _: Admin,
    State(http): State<Arc<Http>>,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    let until = (http.parts.clock)().plus_ms(REPLAY_MS);
    let mut tx = http.parts.db.begin().await.map_err(crate::storage::Error::from)?;
    match dead_letters::replay(&mut tx, &http.parts.sealer, id, until).await? {
        Replayed::Yes => {}
        Replayed::Unknown => return Err(Problem::NotFound("dead letter")),
        Replayed::Damaged => {
            return Err(Problem::Conflict(
                "what was kept of it is damaged and cannot be tried again; it can be dropped",
            ));
        }
    }
    tx.commit().await.map_err(crate::storage::Error::from)?;
    Ok(StatusCode::ACCEPTED)
}

/// `DELETE /_causeway/admin/v1/dead-letters/{id}` – forgets it for good; 204, also the second
/// time.
#[utoipa::path(
    delete, path = "/_causeway/admin/v1/dead-letters/{id}", tag = "queues",
    params(("id" = i64, Path, description = "Its id in the list")),
    responses((status = 204), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(in crate::http) async fn drop_dead_letter(
    _: Admin,
    State(http): State<Arc<Http>>,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    let mut tx = http.parts.db.begin().await.map_err(crate::storage::Error::from)?;
    dead_letters::drop(&mut tx, id).await?;
    tx.commit().await.map_err(crate::storage::Error::from)?;
    Ok(StatusCode::NO_CONTENT)
}
