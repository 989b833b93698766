//! One request to the homeserver, from its parts to its judged answer.

use std::time::Duration;

use reqwest::{
    Client, Method, Response, Url,
    header::{HeaderMap, RETRY_AFTER},
};
use ruma::UserId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{DEVICE, Matrix, MatrixError, Nothing};
use crate::{
    clock,
    domain::unread::unread,
    gateway::clocks::{News, REMEDY, date},
};

/// Most of an answer that is read: 100 events of 64 KiB and their `prev_content`.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// Most of an error that is read and shown.
const MAX_ERROR: usize = 64 * 1024;
/// Longest that a request may take whose answer is short: others wait behind it.
const SOON: Duration = Duration::from_secs(15);

/// A request that is not sent yet.
pub(super) struct Call<'a> {
    name: &'static str,
    matrix: &'a Matrix,
    method: Method,
    url: Url,
    with_token: bool,
    body: Option<Result<Vec<u8>, serde_json::Error>>,
    max_answer: usize,
    longest: Option<Duration>,
}

/// Matrix's standard error response.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    errcode: String,
    error: String,
    retry_after_ms: Option<u64>,
}

impl Matrix {
    /// A request below `/_matrix/client/v3`.
    pub(super) fn v3<'a>(&'a self, name: &'static str, method: Method, path: &[&str]) -> Call<'a> {
        self.call(name, method, &[&["_matrix", "client", "v3"], path].concat())
    }

    /// A request; `name` is what metrics call it, `path` its segments, not yet escaped.
    pub(super) fn call<'a>(
        &'a self,
        name: &'static str,
        method: Method,
        path: &[&str],
    ) -> Call<'a> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        Call {
            name,
            matrix: self,
            method,
            url,
            with_token: true,
            body: None,
            max_answer: MAX_ANSWER,
            longest: None,
        }
    }

    fn client(&self) -> &Client {
        &self.client
    }

    /// Counts what came of a request, and wakes whoever looks after a homeserver that is away.
    fn note<T>(&self, name: &'static str, answer: &Result<T, MatrixError>) {
        if matches!(answer, Err(error) if error.is_away()) {
            self.broke_off();
        }
        if matches!(answer, Err(MatrixError::NotReached(_) | MatrixError::NoAnswer(_))) {
            self.trouble.notify_one();
        }
        let outcome = match answer {
            Ok(_) => "ok",
            Err(MatrixError::NotReached(_)) => "not_reached",
            Err(MatrixError::NoAnswer(_)) => "no_answer",
            Err(MatrixError::RateLimited(_)) => "rate_limited",
            Err(MatrixError::Server(..)) => "server_error",
            Err(MatrixError::UnknownToken) => "unknown_token",
            Err(MatrixError::Refused(..)) => "refused",
            Err(MatrixError::Misunderstood(_) | MatrixError::TooLong(..)) => "misunderstood",
        };
        metrics::counter!("causeway_matrix_requests_total", "call" => name, "outcome" => outcome)
            .increment(1);
    }

    /// Says so when the homeserver's clock and ours begin to disagree, and when they agree again.
    fn look_at_clock(&self, headers: &HeaderMap) {
        let news = date(headers).and_then(|date| self.clocks.note(clock::now().0 / 1_000, date));
        match news {
            Some(News::Wrong(off)) => tracing::error!("{off} at {}: {REMEDY}", self.base.as_str()),
            Some(News::Right) => {
                tracing::info!("this machine's clock and the homeserver's agree again");
            }
            None => {}
        }
    }
}

impl Call<'_> {
    /// Asserts the identity of `user` (spec v1.17, AS API, "Identity assertion").
    pub(super) fn acting_as(self, user: &UserId) -> Self {
        self.query("user_id", user.as_str())
    }

    /// Says nothing of who asks.
    pub(super) fn without_token(mut self) -> Self {
        self.with_token = false;
        self
    }

    /// Asserts the user's device (MSC4326).
    pub(super) fn with_device(self) -> Self {
        self.query("device_id", DEVICE)
    }

    /// Adds a query parameter.
    pub(super) fn query(mut self, key: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(key, value);
        self
    }

    /// Reads an answer of up to so many bytes.
    pub(super) fn up_to(mut self, bytes: usize) -> Self {
        self.max_answer = bytes;
        self
    }

    /// Is not waited for as long as others.
    pub(super) fn soon(mut self) -> Self {
        self.longest = Some(SOON);
        self
    }

    /// Sets the body.
    pub(super) fn json(mut self, body: impl Serialize) -> Self {
        self.body = Some(serde_json::to_vec(&body));
        self
    }

    /// Sends it; the answer says nothing of interest.
    pub(super) async fn nothing(self) -> Result<(), MatrixError> {
        self.send::<Nothing>().await.map(|_| ())
    }

    /// Sends it and reads the answer.
    pub(super) async fn send<T: DeserializeOwned>(self) -> Result<T, MatrixError> {
        let (name, matrix) = (self.name, self.matrix);
        let answer = match self.exchange().await {
            Ok((bytes, Length::Whole)) => serde_json::from_slice(&bytes)
                .map_err(|error| MatrixError::Misunderstood(unread(&error))),
            Ok((bytes, Length::Beyond(max))) => Err(MatrixError::TooLong(max, next_batch(&bytes))),
            Err(error) => Err(error),
        };
        matrix.note(name, &answer);
        answer
    }

    /// Sends it and reads the answer's beginning, as far as is read of one; whether that is all of it.
    pub(super) async fn beginning(self) -> Result<(Vec<u8>, bool), MatrixError> {
        let (name, matrix) = (self.name, self.matrix);
        let answer = self.exchange().await;
        matrix.note(name, &answer);
        answer.map(|(bytes, length)| (bytes, matches!(length, Length::Whole)))
    }

    async fn exchange(self) -> Result<(Vec<u8>, Length), MatrixError> {
        let mut request = self.matrix.client().request(self.method, self.url);
        if self.with_token {
            request = request.bearer_auth(self.matrix.token.expose());
        }
        if let Some(body) = self.body {
            let body = body.map_err(|error| MatrixError::Misunderstood(unread(&error)))?;
            request = request.header("content-type", "application/json").body(body);
        }
        if let Some(longest) = self.longest {
            request = request.timeout(longest);
        }
        let response = request.send().await.map_err(|error| {
            // The address holds user ids and room ids: not for logs.
            let connecting = error.is_connect();
            let text = chain(&error.without_url());
            if connecting { MatrixError::NotReached(text) } else { MatrixError::NoAnswer(text) }
        })?;
        self.matrix.look_at_clock(response.headers());
        if response.status().is_success() {
            read(response, self.max_answer).await
        } else {
            Err(refusal(response).await)
        }
    }
}

/// How much of an answer was read.
enum Length {
    Whole,
    /// It is longer than so many bytes.
    Beyond(usize),
}

/// Reads an answer, at most `max` bytes of it.
async fn read(mut response: Response, max: usize) -> Result<(Vec<u8>, Length), MatrixError> {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok((bytes, Length::Whole)),
            Ok(Some(chunk)) if bytes.len() + chunk.len() <= max => bytes.extend_from_slice(&chunk),
            Ok(Some(_)) => return Ok((bytes, Length::Beyond(max))),
            Err(error) => return Err(MatrixError::NoAnswer(chain(&error.without_url()))),
        }
    }
}

/// The `next_batch` with which an answer begins.
fn next_batch(begin: &[u8]) -> Option<String> {
    let begin = begin.strip_prefix(br#"{"next_batch":"#)?;
    serde_json::Deserializer::from_slice(begin).into_iter().next()?.ok()
}

/// Judges an answer that is not a success.
async fn refusal(response: Response) -> MatrixError {
    let status = response.status().as_u16();
    // `Retry-After` is the standard's way since spec v1.10, `retry_after_ms` the former one.
    let after_header = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok())
        .map(Duration::from_secs);
    let body = read(response, MAX_ERROR).await.map(|(body, _)| body).unwrap_or_default();
    let refusal: Refusal = serde_json::from_slice(&body).unwrap_or_default();
    match status {
        429 => MatrixError::RateLimited(
            refusal.retry_after_ms.map(Duration::from_millis).or(after_header),
        ),
        408 | 500..=599 if refusal.errcode != "M_BAD_STATUS" => {
            MatrixError::Server(status, refusal.errcode, refusal.error)
        }
        // 300–399 too: no redirect is followed, a token must not travel to another address.
        _ if refusal.errcode == "M_UNKNOWN_TOKEN" => MatrixError::UnknownToken,
        _ => MatrixError::Refused(status, refusal.errcode, refusal.error),
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
