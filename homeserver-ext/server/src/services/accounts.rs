//! Accounts: who they are, which devices they have, and how a device gets in.

use causeway_protocol::{
    api::{
        AccountAnswer, AccountDevices, BridgeInfo, LoginRequest, MAX_FORMER, RegisterRequest,
        Registration,
    },
    device::{Untrusted, verify_account, verify_login},
    ids::{AccountId, MemberId, Nonce, Timestamp},
    keys::fingerprint,
};
use causeway_store::Db;

use crate::{
    config::{Config, TokenHash},
    quota::{BRIDGE, Shares},
    sessions::Sessions,
    storage::{self, accounts, devices, devices::Device, keys},
};

/// How long a nonce is good.
const NONCE_MS: u64 = 60_000;
/// One-time keys that a registration may bring.
const MAX_ONE_TIME_KEYS: usize = 500;

/// Why nobody was registered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    /// Ask whoever runs the server.
    #[error("registration is closed on this server")]
    Closed,
    /// Give the right one.
    #[error("the registration token is missing or wrong")]
    Token,
    /// Take another name.
    #[error("the name `{0}` is reserved")]
    Reserved(String),
    /// Register where the account is at home: its server, this server.
    #[error("the account belongs to {0}, this server is {1}")]
    OtherServer(String, String),
    /// A mistake of the client.
    #[error("the first device list must be of version 1 and name just the device")]
    FirstList,
    /// A mistake of the client.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// A mistake of the client.
    #[error("{0}")]
    Keys(&'static str),
    /// Take another name; or, if the account is yours, log in.
    #[error("the account, its identity or its device is registered already")]
    Taken,
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// Registers an account with its first device, whose access token has the hash `token`.
pub(crate) async fn register(
    db: &Db,
    now: Timestamp,
    config: &Config,
    (shares, sessions): (&Shares, &Sessions),
    token: &TokenHash,
    request: &RegisterRequest,
) -> Result<(), RegisterError> {
    let RegisterRequest { list, device, one_time_keys, fallback_key, .. } = request;
    may_register(config, &list.account, request.token.as_deref())?;
    if list.version != 1 || list.devices != [device.device_id] {
        return Err(RegisterError::FirstList);
    }
    if one_time_keys.len() > MAX_ONE_TIME_KEYS {
        return Err(RegisterError::Keys("too many one-time keys"));
    }
    if !fallback_key.fallback || one_time_keys.iter().any(|key| key.fallback) {
        return Err(RegisterError::Keys("the fallback key, and no other, must say that it is one"));
    }
    let (shown, record) = (list.clone(), device.clone());
    let keys: Vec<_> = one_time_keys.iter().chain([fallback_key]).cloned().collect();
    let look = move || {
        verify_account(&shown, std::slice::from_ref(&record))?;
        keys.iter().try_for_each(|key| key.verify(&record.device_id))
    };
    shares.check(&list.account, look).await?;

    let mut tx = db.begin_growing().await.map_err(storage::Error::from)?;
    if !accounts::insert(tx.conn(), now, list).await? {
        return Err(RegisterError::Taken);
    }
    let row = devices::list(tx.conn(), &list.account, device).await?;
    let row = row.ok_or(RegisterError::Taken)?;
    keys::insert(tx.conn(), row, one_time_keys).await?;
    keys::set_fallback(tx.conn(), row, fallback_key).await?;
    devices::set_token(tx.conn(), row, Some(token.as_bytes())).await?;
    sessions.change(&mut tx);
    Ok(tx.commit().await.map_err(storage::Error::from)?)
}

fn may_register(
    config: &Config,
    account: &AccountId,
    token: Option<&str>,
) -> Result<(), RegisterError> {
    if account.server() != config.server_name {
        let (theirs, ours) = (account.server().to_owned(), config.server_name.clone());
        return Err(RegisterError::OtherServer(theirs, ours));
    }
    let shows = |expected: &Option<TokenHash>| {
        expected.as_ref().zip(token).is_some_and(|(hash, token)| hash.is(token))
    };
    let name = account.localpart();
    if name == BRIDGE && shows(&config.bridge_registration_token) {
        return Ok(());
    }
    if matches!(name, "bot" | BRIDGE | "causeway") || name.starts_with('_') {
        return Err(RegisterError::Reserved(name.to_owned()));
    }
    match config.registration {
        Registration::Closed => Err(RegisterError::Closed),
        Registration::Token if shows(&config.registration_token) => Ok(()),
        Registration::Token => Err(RegisterError::Token),
        Registration::Open => Ok(()),
    }
}

/// Keeps a nonce that the caller drew, for 60 s.
pub(crate) async fn login_nonce(
    db: &Db,
    now: Timestamp,
    nonce: &Nonce,
) -> Result<(), storage::Error> {
    let mut tx = db.begin().await?;
    devices::prune_nonces(tx.conn(), now).await?;
    devices::put_nonce(tx.conn(), nonce, now.plus_ms(NONCE_MS)).await?;
    Ok(tx.commit().await?)
}

/// Why a device was not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    /// Ask for a new one.
    #[error("the nonce is unknown, used or older than 60 s")]
    Nonce,
    /// The device is unknown, or the signature is not its own.
    #[error("not a device of an account of this server, or not signed by it")]
    Device,
    /// It is not on its account's list any more: another device took it off, or the account was
    /// recovered.
    #[error(
        "this device is no more on its account's list: it was taken off, or the account was recovered elsewhere"
    )]
    Unlisted,
    /// No account has this identity, or the signature is not its own.
    #[error("not the identity of an account of this server, or not signed by it")]
    Identity,
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// Lets a device in that signed a nonce; its former token ends. The nonce is used up either way.
pub(crate) async fn login(
    db: &Db,
    sessions: &Sessions,
    now: Timestamp,
    server: &str,
    token: &TokenHash,
    request: &LoginRequest,
) -> Result<Device, LoginError> {
    let LoginRequest { device_id, nonce, signature } = request;
    let mut tx = db.begin().await.map_err(storage::Error::from)?;
    if !devices::take_nonce(tx.conn(), nonce, now).await? {
        return Err(LoginError::Nonce);
    }
    let device = devices::by_id(tx.conn(), device_id).await?;
    let device = device.filter(|device| device.account.server() == server);
    let has_signed = verify_login(server, device_id, nonce, signature).is_ok();
    // Whoever has not signed learns nothing of the device.
    let admitted = match device.filter(|_| has_signed) {
        Some(device) if device.listed => {
            devices::set_token(tx.conn(), device.row, Some(token.as_bytes())).await?;
            sessions.change(&mut tx);
            Ok(device)
        }
        Some(_) => Err(LoginError::Unlisted),
        None => Err(LoginError::Device),
    };
    tx.commit().await.map_err(storage::Error::from)?;
    admitted
}

/// The newest list and records of the account whose identity key signed a nonce, as a device signs
/// to log in, in the place of its device; the nonce is used up either way. The identity key is the
/// recovery key, and this the first step back to an account whose devices are lost.
pub(crate) async fn prove_identity(
    db: &Db,
    now: Timestamp,
    server: &str,
    request: &LoginRequest,
) -> Result<AccountDevices, LoginError> {
    let LoginRequest { device_id: identity, nonce, signature } = request;
    let mut tx = db.begin().await.map_err(storage::Error::from)?;
    if !devices::take_nonce(tx.conn(), nonce, now).await? {
        return Err(LoginError::Nonce);
    }
    let list = accounts::list_of(tx.conn(), &MemberId::new(*identity.as_bytes())).await?;
    let has_signed = verify_login(server, identity, nonce, signature).is_ok();
    let list = list.filter(|list| has_signed && list.account.server() == server);
    let found = match list {
        Some(list) => {
            let devices = devices::records(tx.conn(), &list.account).await?;
            Some(AccountDevices { list, devices })
        }
        None => None,
    };
    tx.commit().await.map_err(storage::Error::from)?;
    found.ok_or(LoginError::Identity)
}

/// Ends a device's session.
pub(crate) async fn logout(
    db: &Db,
    sessions: &Sessions,
    caller: &Device,
) -> Result<(), storage::Error> {
    let mut tx = db.begin().await?;
    devices::set_token(tx.conn(), caller.row, None).await?;
    sessions.change(&mut tx);
    Ok(tx.commit().await?)
}

/// The newest list of an account with its devices' records, and those of devices that it has had.
pub(crate) async fn devices_of(
    db: &Db,
    account: &AccountId,
) -> Result<Option<AccountAnswer>, storage::Error> {
    let mut read = db.read().await?;
    loop {
        let Some(list) = accounts::list(read.conn(), account).await? else { return Ok(None) };
        let devices = devices::records(read.conn(), account).await?;
        // A list that was replaced between the two reads would not fit the records.
        if list.devices.iter().eq(devices.iter().map(|record| &record.device_id)) {
            let former = devices::former(read.conn(), account, &list.member_id, MAX_FORMER).await?;
            return Ok(Some(AccountAnswer { list, devices, former }));
        }
    }
}

/// The bridge's account, if it is registered.
pub(crate) async fn bridge(db: &Db, server: &str) -> Result<Option<BridgeInfo>, storage::Error> {
    let name = format!("{BRIDGE}:{server}");
    let Ok(account) = name.parse::<AccountId>() else { return Ok(None) };
    let mut read = db.read().await?;
    let list = accounts::list(read.conn(), &account).await?;
    Ok(list.map(|list| BridgeInfo {
        account,
        member_id: list.member_id,
        fingerprint: fingerprint(&list.member_id),
    }))
}
