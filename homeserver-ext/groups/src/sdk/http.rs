//! The native API over HTTP, one function for each route (protocol §8).
//!
//! Nothing is retried here, and no redirect is followed: a token goes where it was meant to go. How
//! a call ends is sorted in `call`.

mod calls;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use causeway_protocol::{
    api::{
        Accepted, AccountAnswer, AccountDevices, Again, ClaimRequest, ClaimedKeys, GroupHead,
        GroupPage, GroupServers, InvitePage, JoinPending, JoinRequest, Kept, KeyCount, LoginNonce,
        LoginRequest, MessageStatus, NewInvite, OpBytes, OpPage, OwnDevice, PREFIX, ParkedPage,
        PostEnvelopes, PostOp, PutSenderKeys, ReadAgain, RegisterRequest, RequestPage,
        SenderKeyInventory, SenderKeysNoted, ServerInfo, Session, Unpark, Unparked, UploadKeys,
    },
    ids::{AccountId, DeviceId, EnvelopeId, Epoch, GroupId, InviteKey, RequestId, Seq},
};
use reqwest::{ClientBuilder, Method, RequestBuilder, StatusCode, Upgraded, Url, header};
use serde::{Serialize, de::DeserializeOwned};
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use zeroize::Zeroizing;

use super::call::{CallError, answer, asked, body, broken_off, chain, not_sent, refusal, sent};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is kept for later.
const IDLE: Duration = Duration::from_secs(15);
/// For a whole call, its answer included: 4 MiB in a minute.
const CALL_TIMEOUT: Duration = Duration::from_mins(1);
/// A `.well-known` file is a few lines; whatever is longer is something else.
const MAX_WELL_KNOWN_BYTES: usize = 64 << 10;
const BASE_URL_KEY: &str = "dev.causeway.native.base_url";

/// Why text is not where a server can be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// Not an `http` or `https` URL with a host, without user, query and fragment.
    #[error("`{0}` is not a server URL of the form https://host[:port]")]
    Form(String),
    /// TLS could not be set up on this machine.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// A bearer token; never shown.
#[derive(Clone)]
pub struct AccessToken(Zeroizing<String>);

impl AccessToken {
    /// The token with this text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Its text, for a header or a sealed row.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

/// One server's native API; cheap to clone, clones share connections and the session.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
    /// Without a limit on how long an answer takes, and without HTTP/2, which has no upgrade.
    streaming: reqwest::Client,
    base: Url,
    token: Arc<RwLock<Option<AccessToken>>>,
}

impl Http {
    /// The API at `base`, `https://host[:port]`; nothing is sent yet.
    ///
    /// # Errors
    /// [`BaseUrlError::Form`] for anything else; [`BaseUrlError::Tls`] where TLS cannot be set up.
    pub fn new(base: &str) -> Result<Self, BaseUrlError> {
        let form = || BaseUrlError::Form(base.to_owned());
        let base = Url::parse(base).map_err(|_| form())?;
        let plain = base.username().is_empty()
            && base.password().is_none()
            && base.query().is_none()
            && base.fragment().is_none();
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() || !plain {
            return Err(form());
        }
        let built =
            |builder: ClientBuilder| builder.build().map_err(|e| BaseUrlError::Tls(chain(&e)));
        let client = built(client_builder().timeout(CALL_TIMEOUT))?;
        let streaming = built(client_builder().http1_only())?;
        Ok(Self { client, streaming, base, token: Arc::default() })
    }

    /// The same API, as the device that this token was given to.
    #[must_use]
    pub fn with_token(mut self, token: AccessToken) -> Self {
        self.token = Arc::new(RwLock::new(Some(token)));
        self
    }

    /// From now on with this token, also for whoever has a clone.
    pub(super) fn set_token(&self, token: AccessToken) {
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }

    /// Where the server is.
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The token of this session, if there is one.
    fn token(&self) -> Option<AccessToken> {
        self.token.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `GET server`.
    pub async fn server(&self) -> Result<ServerInfo, CallError> {
        self.get(&["server"], &[]).await
    }

    /// `POST register`.
    pub async fn register(&self, request: &RegisterRequest) -> Result<Session, CallError> {
        self.post(&["register"], request).await
    }

    /// `POST login/nonce`.
    pub async fn login_nonce(&self) -> Result<LoginNonce, CallError> {
        self.post(&["login", "nonce"], &serde_json::json!({})).await
    }

    /// `POST login`.
    pub async fn login(&self, request: &LoginRequest) -> Result<Session, CallError> {
        self.post(&["login"], request).await
    }

    /// `POST logout`.
    pub async fn logout(&self) -> Result<(), CallError> {
        self.post_for_nothing(&["logout"], &serde_json::json!({})).await
    }

    /// `POST recover`: by the identity key, which signed a nonce.
    pub async fn recover(&self, proof: &LoginRequest) -> Result<AccountDevices, CallError> {
        self.post(&["recover"], proof).await
    }

    /// `PUT recover/devices`: by the identity's signature alone.
    pub async fn put_recovered(&self, devices: &AccountDevices) -> Result<(), CallError> {
        self.put_for_nothing(&["recover", "devices"], devices).await
    }

    /// `GET accounts/{account}`.
    pub async fn account(&self, account: &AccountId) -> Result<AccountAnswer, CallError> {
        self.get(&["accounts", account.as_str()], &[]).await
    }

    /// `POST keys`.
    pub async fn upload_keys(&self, keys: &UploadKeys) -> Result<KeyCount, CallError> {
        self.post(&["keys"], keys).await
    }

    /// `POST keys/claim` for at most 1,000 devices.
    pub async fn claim_keys(&self, devices: Vec<DeviceId>) -> Result<ClaimedKeys, CallError> {
        self.post(&["keys", "claim"], &ClaimRequest { devices }).await
    }

    /// `POST groups`: a group's first op.
    pub async fn create_group(&self, op: &OpBytes) -> Result<GroupHead, CallError> {
        self.post(&["groups"], &PostOp { op: op.0.clone() }).await
    }

    /// `GET groups`: one page of the caller's.
    pub async fn groups(&self, from: Option<GroupId>) -> Result<GroupPage, CallError> {
        self.get(&["groups"], &from_query(from)).await
    }

    /// `GET groups/{id}`.
    pub async fn group(&self, group: GroupId) -> Result<GroupHead, CallError> {
        self.get(&["groups", &group.to_string()], &[]).await
    }

    /// `GET groups/{id}/roster`: one page of ops, from epoch `from` on.
    pub async fn ops(&self, group: GroupId, from: Epoch) -> Result<OpPage, CallError> {
        self.get(&["groups", &group.to_string(), "roster"], &from_query(Some(from))).await
    }

    /// `POST groups/{id}/roster`: an op after the first.
    pub async fn post_op(&self, group: GroupId, op: &OpBytes) -> Result<GroupHead, CallError> {
        let body = PostOp { op: op.0.clone() };
        self.post(&["groups", &group.to_string(), "roster"], &body).await
    }

    /// `POST groups/{id}/invites`.
    pub async fn create_invite(&self, group: GroupId, invite: &NewInvite) -> Result<(), CallError> {
        self.post_for_nothing(&["groups", &group.to_string(), "invites"], invite).await
    }

    /// `GET groups/{id}/invites`: one page.
    pub async fn invites(
        &self,
        group: GroupId,
        from: Option<InviteKey>,
    ) -> Result<InvitePage, CallError> {
        self.get(&["groups", &group.to_string(), "invites"], &from_query(from)).await
    }

    /// `DELETE groups/{id}/invites/{ik_pub}`; also the second time.
    pub async fn revoke_invite(&self, group: GroupId, key: InviteKey) -> Result<(), CallError> {
        self.delete(&["groups", &group.to_string(), "invites", &key.to_string()]).await
    }

    /// `POST groups/{id}/join`.
    pub async fn join(
        &self,
        group: GroupId,
        request: &JoinRequest,
    ) -> Result<JoinPending, CallError> {
        self.post(&["groups", &group.to_string(), "join"], request).await
    }

    /// `GET groups/{id}/requests`: one page of the join requests that wait.
    pub async fn requests(
        &self,
        group: GroupId,
        from: Option<RequestId>,
    ) -> Result<RequestPage, CallError> {
        self.get(&["groups", &group.to_string(), "requests"], &from_query(from)).await
    }

    /// `DELETE groups/{id}/requests/{id}`; also the second time.
    pub async fn drop_request(&self, group: GroupId, id: RequestId) -> Result<(), CallError> {
        self.delete(&["groups", &group.to_string(), "requests", &id.to_string()]).await
    }

    /// `POST groups/{id}/envelopes`: in order, all or nothing, and again with the same bytes as
    /// often as need be.
    pub async fn post_envelopes(
        &self,
        group: GroupId,
        envelopes: &PostEnvelopes,
    ) -> Result<Accepted, CallError> {
        self.post(&["groups", &group.to_string(), "envelopes"], envelopes).await
    }

    /// `POST groups/{id}/fan-outs`: the same in bytes, as [`causeway_protocol::posting`] writes them.
    pub async fn post_fan_outs(
        &self,
        group: GroupId,
        posting: Vec<u8>,
    ) -> Result<Accepted, CallError> {
        let request = self.request(Method::POST, &["groups", &group.to_string(), "fan-outs"])?;
        let request = request.header(header::CONTENT_TYPE, "application/octet-stream");
        answer(sent(request.body(posting)).await?).await
    }

    /// `GET device`.
    pub async fn device(&self) -> Result<OwnDevice, CallError> {
        self.get(&["device"], &[]).await
    }

    /// `PUT device/kept`.
    pub async fn keep_read(&self) -> Result<Kept, CallError> {
        answer(sent(self.request(Method::PUT, &["device", "kept"])?).await?).await
    }

    /// `POST device/kept`.
    pub async fn read_again(&self, request: &ReadAgain) -> Result<Again, CallError> {
        self.post(&["device", "kept"], request).await
    }

    /// `GET device/parked`: one page.
    pub async fn parked(&self, from: Option<Seq>) -> Result<ParkedPage, CallError> {
        let query = from.map(|from| ("from", from.0.to_string()));
        self.get(&["device", "parked"], query.as_slice()).await
    }

    /// `POST device/unpark`.
    pub async fn unpark(&self, request: &Unpark) -> Result<Unparked, CallError> {
        self.post(&["device", "unpark"], request).await
    }

    /// `GET messages/{id}/status`.
    pub async fn status(&self, id: EnvelopeId) -> Result<MessageStatus, CallError> {
        self.get(&["messages", &id.to_string(), "status"], &[]).await
    }

    /// `GET groups/{id}/servers`.
    pub async fn group_servers(&self, group: GroupId) -> Result<GroupServers, CallError> {
        self.get(&["groups", &group.to_string(), "servers"], &[]).await
    }

    /// `GET groups/{id}/sender-keys`: one page.
    pub async fn sender_keys(
        &self,
        group: GroupId,
        from: Option<DeviceId>,
    ) -> Result<SenderKeyInventory, CallError> {
        self.get(&["groups", &group.to_string(), "sender-keys"], &from_query(from)).await
    }

    /// `PUT groups/{id}/sender-keys`.
    pub async fn report_sender_keys(
        &self,
        group: GroupId,
        report: &PutSenderKeys,
    ) -> Result<SenderKeysNoted, CallError> {
        let path = ["groups", &group.to_string(), "sender-keys"];
        answer(sent(self.request(Method::PUT, &path)?.json(report)).await?).await
    }

    /// `DELETE groups/{id}/sender-keys`: asks everybody to begin new chains; from admins, and not
    /// more than once an hour.
    pub async fn ask_rotation(&self, group: GroupId) -> Result<(), CallError> {
        self.delete(&["groups", &group.to_string(), "sender-keys"]).await
    }

    /// `GET stream`: a connection that speaks WebSocket from here on.
    ///
    /// The handshake is made here and not by the WebSocket library, which would write the token to
    /// its log, and could not refuse in the words of this API.
    pub(super) async fn open_stream(&self) -> Result<Upgraded, CallError> {
        let key = generate_key();
        let answer = self
            .endless(&["stream"], &[])?
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key)
            .send()
            .await
            // Nothing is done by asking for the stream: it can always be asked for again.
            .map_err(|e| CallError::Unreachable(not_sent(&e)))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(answer.status(), answer).await);
        }
        let accept = answer.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if accept.is_none_or(|accept| accept != &derive_accept_key(key.as_bytes())) {
            return Err(CallError::Unknown("the answer is no WebSocket's".to_owned()));
        }
        answer.upgrade().await.map_err(broken_off)
    }

    /// A request for an answer that has no end.
    pub(super) fn endless(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<RequestBuilder, CallError> {
        let request = self.streaming.get(self.url(path)?).query(query);
        Ok(match self.token() {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        })
    }

    pub(super) async fn get<A: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<A, CallError> {
        answer(sent(self.request(Method::GET, path)?.query(query)).await?).await
    }

    async fn post<B: Serialize + ?Sized, A: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &B,
    ) -> Result<A, CallError> {
        answer(sent(self.request(Method::POST, path)?.json(body)).await?).await
    }

    async fn post_for_nothing<B: Serialize + ?Sized>(
        &self,
        path: &[&str],
        body: &B,
    ) -> Result<(), CallError> {
        sent(self.request(Method::POST, path)?.json(body)).await.map(drop)
    }

    pub(super) async fn put_for_nothing<B: Serialize + ?Sized>(
        &self,
        path: &[&str],
        body: &B,
    ) -> Result<(), CallError> {
        sent(self.request(Method::PUT, path)?.json(body)).await.map(drop)
    }

    async fn delete(&self, path: &[&str]) -> Result<(), CallError> {
        sent(self.request(Method::DELETE, path)?).await.map(drop)
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, CallError> {
        let request = self.client.request(method, self.url(path)?);
        Ok(match self.token() {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        })
    }

    /// Each segment is escaped: an account may hold `/`.
    fn url(&self, path: &[&str]) -> Result<Url, CallError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| unusable(&self.base))?
            .pop_if_empty()
            .extend(PREFIX.split('/').skip(1))
            .extend(path);
        Ok(url)
    }
}

/// Base URL of the native API of `server`, as its `/.well-known/matrix/client` names it.
///
/// # Errors
/// [`CallError::Refused`] where the file is missing or does not name one; else as any call.
pub async fn discover(server: &str) -> Result<String, CallError> {
    let client = client_builder().timeout(CALL_TIMEOUT).build();
    let client = client.map_err(|e| CallError::Unreachable(chain(&e)))?;
    let url = format!("https://{server}/.well-known/matrix/client");
    let nameless = |status, how: &str| CallError::Refused {
        status,
        errcode: "M_NOT_FOUND".to_owned(),
        error: format!("{url} {how} `{BASE_URL_KEY}`; give the server's address with --server"),
        taken: Vec::new(),
    };
    let answer = asked(client.get(&url)).await?;
    let status = answer.status();
    if status.is_client_error() || status.is_redirection() {
        return Err(nameless(status.as_u16(), "is not there to name"));
    }
    if !status.is_success() {
        return Err(refusal(status, answer).await);
    }
    let bytes = body(answer, MAX_WELL_KNOWN_BYTES).await?;
    serde_json::from_slice::<serde_json::Value>(&bytes)
        .ok()
        .and_then(|file| file.get(BASE_URL_KEY)?.as_str().map(str::to_owned))
        .ok_or_else(|| nameless(200, "does not name"))
}

/// What all connections have in common; one provider of cryptography for TLS among it.
pub(super) fn client_builder() -> ClientBuilder {
    // Answers with an error when another part of the process was first; then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        // A proxy that is good for calls may well hold streams up.
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        // A server lets in so many of one address, and others are there as well.
        .pool_idle_timeout(IDLE)
        .user_agent(concat!("causeway/", env!("CARGO_PKG_VERSION")))
}

fn unusable(base: &Url) -> CallError {
    CallError::Unreachable(format!("`{base}` cannot be the base of a path"))
}

fn from_query(from: Option<impl ToString>) -> Vec<(&'static str, String)> {
    from.map(|from| ("from", from.to_string())).into_iter().collect()
}
