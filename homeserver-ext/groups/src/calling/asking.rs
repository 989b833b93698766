//! What a device asks its server about a call, one request at a time of each kind.

use std::time::Duration;

use causeway_protocol::{
    api::{CallSfus, CallState, JoinCall, ReportCall, SetCall},
    ids::{CallId, GroupId},
};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::known::{Ask, OnServer};
use crate::{
    calls::{Access, Whose},
    sdk::{CallError, Client},
};

/// After this access to a server for calls may be asked for again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long an answer is waited for: a server that hangs is noticed as one that is away.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a home says of a server where others than the devices hear what is said.
pub(super) const UNSEALED: &str = "none";

pub(super) type Answer = (Ask, Result<CallState, CallError>);
pub(super) type Given = Result<(CallSfus, Whose), CallError>;

/// Where a device goes that was given access.
pub(super) enum Goes {
    To(Box<Access>),
    /// Not there: others would hear what is said.
    Nowhere,
}

/// What lets it into the server for calls, and when that may be asked for.
pub(super) struct Getting {
    going: Option<BoxFuture<'static, Given>>,
    at: Instant,
    private_servers: bool,
}

impl Getting {
    /// `private_servers` as of [`Settings`](crate::calls::Settings).
    pub(super) fn new(private_servers: bool) -> Self {
        Self { going: None, at: Instant::now(), private_servers }
    }

    /// When to ask, where access is wanted.
    pub(super) fn due(&self, is_wanted: bool) -> Option<Instant> {
        (is_wanted && self.going.is_none()).then_some(self.at)
    }

    /// Not before a moment has passed.
    pub(super) fn wait(&mut self) {
        self.at = self.at.max(Instant::now() + AGAIN);
    }

    pub(super) fn ask(&mut self, client: Client, call: (GroupId, CallId), epoch: u32) {
        self.wait();
        let private_servers = self.private_servers;
        let asking = async move {
            let given = client.http().access_to_call(call, epoch, None).await?;
            let home =
                client.home(call.0).await.map_err(|it| CallError::Unknown(it.to_string()))?;
            let is_own = home == client.me().account.server();
            Ok((given, if is_own || private_servers { Whose::Home } else { Whose::Foreign }))
        };
        self.going = Some(Box::pin(within(asking)));
    }

    /// What was given; nothing is lost when this is given up.
    pub(super) async fn next(&mut self) -> Given {
        let given = running(self.going.as_mut()).await;
        self.going = None;
        given
    }
}

/// Whereto, of what was given: the home's own. Where others would hear what is said it goes only if its person agreed to that.
pub(super) fn goes((given, whose): (CallSfus, Whose), may_degrade: bool) -> Option<Goes> {
    let sfu = given.sfus.into_iter().find(|sfu| sfu.publish)?;
    let is_sealed = given.e2ee != UNSEALED;
    if !is_sealed && !may_degrade {
        return Some(Goes::Nowhere);
    }
    let (url, token) = (sfu.url, Zeroizing::new(sfu.jwt));
    Some(Goes::To(Box::new(Access { url, token, whose, is_sealed, speaks: true })))
}

/// What it is answered, where that does not take too long.
pub(super) async fn within<T>(
    asking: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| {
        Err(CallError::Unknown(format!("no answer within {} s", PATIENCE.as_secs())))
    })
}

pub(super) async fn request(
    client: &Client,
    call: (GroupId, CallId),
    caps: &JoinCall,
    ask: &Ask,
) -> Result<CallState, CallError> {
    let http = client.http();
    match ask {
        Ask::Look => http.call(call.0, call.1).await,
        Ask::Join => http.join_call(call, caps).await,
        Ask::Report(epoch, connected, on_server) => {
            let (epoch, connected) = (*epoch, connected.clone());
            let ready = on_server.as_ref().and_then(OnServer::ready);
            let decline = on_server.as_ref().and_then(OnServer::decline);
            http.report_call(call, &ReportCall { epoch, connected, ready, decline }).await
        }
        Ask::Set(muted, hand) => {
            http.set_call(call, &SetCall { muted: Some(*muted), hand: Some(*hand), reaction: None })
                .await
        }
        Ask::Leave => http.leave_call(call.0, call.1).await,
    }
}

/// What comes of it, where it runs.
pub(super) async fn running<T>(what: Option<&mut BoxFuture<'static, T>>) -> T {
    match what {
        Some(what) => what.await,
        None => std::future::pending().await,
    }
}
