//! What is known of other servers and of their accounts ends where nothing here needs it any more.

use causeway_protocol::ids::Timestamp;
use causeway_store::{Conn, Db};

use super::DAY_MS;
use crate::storage::{
    self, logs,
    servers::{self, Named, ends},
};

/// Accounts and servers that are looked at together.
const PAGE: u32 = 256;
/// Pages of each in one round at most, while there is something to forget.
const PAGES: u32 = 16;
/// What is forgotten in one transaction at most, so that others need not wait long.
const AT_ONCE: usize = 8;
/// Rows of a device's mailbox that go with it at most.
const ROWS: u32 = 512;
/// How long an account is remembered that is in no group.
const SHOWN_MS: u64 = 7 * DAY_MS;
/// How long a group is kept of which another server is the home, and that has named nobody here: its home gives the
/// ops one after the other, and that which lets somebody of here in last.
const UNNAMED_MS: u64 = 3_600_000;
/// Groups that are forgotten in one round at most, each in a transaction of its own.
const UNNAMED: u32 = 64;
/// How long a server is remembered of which nothing is heard, and that shares no group.
const HEARD_MS: u64 = 30 * DAY_MS;

/// Up to which account and which server one has looked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Looked {
    account: String,
    server: String,
}

/// Forgets what nothing here needs, of so many accounts and servers behind those that were looked at before.
/// `may_go` says of a server whether it may be forgotten, and `is_gone` is told that it is.
pub(crate) async fn forget(
    (db, now): (&Db, Timestamp),
    (may_go, is_gone): (impl Fn(&str) -> bool + Sync, impl Fn(&str) + Sync),
    looked: Looked,
) -> Result<Looked, storage::Error> {
    unnamed_groups(db, now).await?;
    let Looked { mut account, mut server } = looked;
    for _ in 0..PAGES {
        let is_any;
        (account, is_any) = accounts(db, now, account).await?;
        if account.is_empty() || !is_any {
            break;
        }
    }
    for _ in 0..PAGES {
        let is_any;
        (server, is_any) = of_servers((db, now), (&may_go, &is_gone), server).await?;
        if server.is_empty() || !is_any {
            break;
        }
    }
    Ok(Looked { account, server })
}

/// Forgets groups of other servers that have named nobody here.
async fn unnamed_groups(db: &Db, now: Timestamp) -> Result<(), storage::Error> {
    let before = now.minus_ms(UNNAMED_MS);
    let unnamed = logs::unnamed(db.read().await?.conn(), before, UNNAMED).await?;
    for group in unnamed {
        let mut tx = db.begin().await?;
        let is_gone = logs::forget(tx.conn(), group, before).await?;
        tx.commit().await?;
        metrics::counter!("causeway_servers_forgotten_total", "what" => "group")
            .increment(u64::from(is_gone));
    }
    Ok(())
}

/// Forgets accounts of one page; behind which to go on, nothing at the end, and whether there were any.
async fn accounts(
    db: &Db,
    now: Timestamp,
    after: String,
) -> Result<(String, bool), storage::Error> {
    let before = now.minus_ms(SHOWN_MS);
    let mut read = db.read().await?;
    let page = ends::accounts(read.conn(), &after, PAGE).await?;
    let last = page.last().filter(|_| page.len() >= PAGE as usize);
    let last = last.map(|(account, _)| account.clone()).unwrap_or_default();
    let mut unneeded = Vec::new();
    for (account, asked) in page {
        if asked < before && !ends::is_needed(read.conn(), &account, now).await? {
            unneeded.push(account);
        }
    }
    drop(read);
    for some in unneeded.chunks(AT_ONCE) {
        let mut tx = db.begin().await?;
        let mut count = 0;
        for account in some {
            count += u64::from(forget_account(tx.conn(), account, now).await?);
        }
        tx.commit().await?;
        metrics::counter!("causeway_servers_forgotten_total", "what" => "account").increment(count);
    }
    Ok((last, !unneeded.is_empty()))
}

/// Forgets an account, unless something came meanwhile for which it is needed.
async fn forget_account(
    conn: &mut Conn,
    account: &str,
    now: Timestamp,
) -> Result<bool, storage::Error> {
    Ok(!ends::is_needed(conn, account, now).await?
        && ends::forget_account(conn, account, ROWS).await?)
}

/// Likewise servers.
async fn of_servers(
    (db, now): (&Db, Timestamp),
    (may_go, is_gone): (&(impl Fn(&str) -> bool + Sync), &(impl Fn(&str) + Sync)),
    after: String,
) -> Result<(String, bool), storage::Error> {
    let before = now.minus_ms(HEARD_MS);
    let page = servers::named(db.read().await?.conn(), Some(&after), PAGE).await?;
    let last = page.last().filter(|_| page.len() >= PAGE as usize);
    let last = last.map(|named| named.name.clone()).unwrap_or_default();
    let is_old = |named: &Named| named.heard < before && named.paused.is_none();
    let mut old: Vec<String> = page.into_iter().filter(is_old).map(|named| named.name).collect();
    old.retain(|name| may_go(name));
    let mut is_any = false;
    for some in old.chunks(AT_ONCE) {
        let mut tx = db.begin().await?;
        let mut gone = Vec::new();
        for name in some {
            if ends::forget_server(tx.conn(), name, before).await? {
                gone.push(name);
            }
        }
        tx.commit().await?;
        is_any |= !gone.is_empty();
        for name in &gone {
            is_gone(name);
        }
        metrics::counter!("causeway_servers_forgotten_total", "what" => "server")
            .increment(gone.len() as u64);
    }
    Ok((last, is_any))
}
