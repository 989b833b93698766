//! What a request names, parsed, and how long lists are cut into pages.

use axum::extract::{self, FromRequestParts};

use super::Problem;

/// Rows of one page, unless asked otherwise.
const PAGE: u32 = 100;
/// Most rows of one page.
const MAX_PAGE: u32 = 1_000;

/// A query, whose faults are answered as all others are.
#[derive(Debug, FromRequestParts)]
#[from_request(via(extract::Query), rejection(Problem))]
pub struct Query<T>(pub T);

/// A part of the path, likewise.
#[derive(Debug, FromRequestParts)]
#[from_request(via(extract::Path), rejection(Problem))]
pub struct Path<T>(pub T);

/// How many rows a page has that was asked for with this limit.
///
/// # Errors
/// [`Problem::BadRequest`]: none, or more than one page may have.
pub fn checked(limit: Option<u32>) -> Result<u32, Problem> {
    match limit {
        None => Ok(PAGE),
        Some(limit @ 1..=MAX_PAGE) => Ok(limit),
        Some(_) => Err(Problem::BadRequest(format!("limit is 1 to {MAX_PAGE}"))),
    }
}

/// Where the next page begins: behind the `last` of the `got` rows, unless they were fewer than
/// asked for.
pub fn next<T>(got: usize, limit: u32, last: Option<T>) -> Option<T> {
    if got == limit as usize { last } else { None }
}
