//! Which identity stands for which account, and which others were shown for it.

use causeway_protocol::ids::{AccountId, MemberId, Timestamp};
use causeway_store::{Conn, Row};
use sqlx::Row as _;

use super::{Error, Whole as _, ms, unsigned};

/// What an identity is to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It stands for the account, since first contact or a person's word.
    Pinned,
    /// It stands for the account, and a person has compared safety numbers.
    Verified,
    /// It was shown for the account, and nobody has decided.
    Seen,
    /// A person has decided that it does not stand for the account.
    Former,
}

impl Standing {
    const ALL: [Self; 4] = [Self::Pinned, Self::Verified, Self::Seen, Self::Former];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Verified => "verified",
            Self::Seen => "seen",
            Self::Former => "former",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.name() == name)
    }
}

/// A row.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) account: AccountId,
    pub(crate) member: MemberId,
    pub(crate) standing: Standing,
    pub(crate) since: Timestamp,
}

fn identity(row: &Row) -> Result<Identity, Error> {
    Ok(Identity {
        account: row.try_get::<String, _>(0)?.parse().whole("identities")?,
        member: MemberId::from_slice(row.try_get(1)?).whole("identities")?,
        standing: Standing::from_name(row.try_get(2)?).whole("identities")?,
        since: Timestamp(unsigned(row.try_get(3)?)),
    })
}

/// All of them.
pub(crate) async fn all(conn: &mut Conn) -> Result<Vec<Identity>, Error> {
    let rows = sqlx::query("SELECT account, member_id, standing, since_ms FROM identities")
        .fetch_all(conn)
        .await?;
    rows.iter().map(identity).collect()
}

/// Those that stand for their accounts, in the accounts' order, from one on.
pub(crate) async fn page(conn: &mut Conn, from: &str, limit: u32) -> Result<Vec<Identity>, Error> {
    let rows = sqlx::query(
        "SELECT account, member_id, standing, since_ms FROM identities
         WHERE account >= $1 AND standing IN ('pinned', 'verified') ORDER BY account LIMIT $2",
    )
    .bind(from)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(identity).collect()
}

/// Puts what `member` is to `account`, in place of what it was.
pub(crate) async fn put(
    conn: &mut Conn,
    account: &AccountId,
    member: &MemberId,
    standing: Standing,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO identities (account, member_id, standing, since_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (account, member_id) DO UPDATE SET standing = excluded.standing,
             since_ms = excluded.since_ms",
    )
    .bind(account.as_str())
    .bind(member.as_bytes().as_slice())
    .bind(standing.name())
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// The revision of all of them; `None` before anybody was met.
pub(crate) type Met = Option<[u8; 8]>;

pub(crate) async fn revision(conn: &mut Conn) -> Result<Met, Error> {
    let met: Option<Option<Vec<u8>>> =
        sqlx::query_scalar("SELECT met FROM own").fetch_optional(conn).await?;
    revision_in(met.flatten().as_deref())
}

/// The revision in its column.
pub(crate) fn revision_in(met: Option<&[u8]>) -> Result<Met, Error> {
    met.map(|met| met.try_into().ok().whole("own")).transpose()
}

/// They have changed, or are complete.
pub(crate) async fn set_revision(conn: &mut Conn, revision: [u8; 8]) -> Result<(), Error> {
    sqlx::query("UPDATE own SET met = $1").bind(revision.as_slice()).execute(conn).await?;
    Ok(())
}
