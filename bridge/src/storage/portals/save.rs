//! What changed of a portal is written down.

use causeway_store::{Engine, Tx};
use ruma::{OwnedUserId, UserId};
use sqlx::QueryBuilder;

use super::{
    super::{Error, answered, ghosts, lanes},
    TOPIC,
};
use crate::domain::{
    lane::Lane,
    portal::{Portal, PortalId, PortalState, Unsaved},
};

/// Writes down what was [applied](Portal::apply) since it was loaded.
///
/// # Errors
/// [`Error`]
pub async fn save(tx: &mut Tx, portal: &mut Portal) -> Result<(), Error> {
    let Unsaved { place, mirrors, invited, ghosts, all_ghosts } =
        std::mem::take(&mut portal.unsaved);
    if place {
        save_place(tx, portal).await?;
        if portal.state == PortalState::Making {
            answered::are_heard(tx, portal.id).await?;
        }
    }
    if all_ghosts {
        ghosts::are_elsewhere(tx, portal.id).await?;
    }
    let (known, gone): (Vec<_>, Vec<_>) =
        mirrors.iter().map(|id| (id, portal.mirrors.get(id))).partition(|(_, name)| name.is_some());
    save_mirrors(tx, portal.id, known.into_iter()).await?;
    for (user, _) in gone {
        sqlx::query("DELETE FROM portal_mirrors WHERE portal = $1 AND user_id = $2")
            .bind(portal.id.0)
            .bind(user.as_str())
            .execute(tx.conn())
            .await?;
        answered::forget(tx, portal.id, user.as_str()).await?;
    }
    for user in &invited {
        save_invited(tx, portal.id, user, portal.invited.contains(user)).await?;
    }
    for account in &ghosts {
        match portal.removed.get(account) {
            Some(by) => ghosts::removed(tx, portal.id, account, by).await?,
            None => ghosts::has_left(tx, portal.id, account).await?,
        }
    }
    Ok(())
}

async fn save_invited(
    tx: &mut Tx,
    portal: PortalId,
    user: &UserId,
    is_invited: bool,
) -> Result<(), Error> {
    let query = if is_invited {
        sqlx::query(
            "INSERT INTO portal_invited (portal, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        )
    } else {
        sqlx::query("DELETE FROM portal_invited WHERE portal = $1 AND user_id = $2")
    };
    query.bind(portal.0).bind(user.as_str()).execute(tx.conn()).await?;
    Ok(())
}

async fn save_place(tx: &mut Tx, portal: &Portal) -> Result<(), Error> {
    sqlx::query(
        "UPDATE portals SET room_id = $2, name = $3, state = $4, encrypted = $5, lost = $6,
             successor = $7, hears_from = $8, refused = $9
         WHERE portal = $1",
    )
    .bind(portal.id.0)
    .bind(portal.room.as_ref().map(|room| room.as_str()))
    .bind(portal.name.as_str())
    .bind(match portal.state {
        PortalState::Making => "making",
        PortalState::Open => "open",
        PortalState::Closed => "closed",
    })
    .bind(portal.encrypted)
    .bind(portal.lost.as_deref())
    .bind(portal.successor.as_ref().map(|room| room.as_str()))
    .bind(portal.hears_from.as_ref().map(|event| event.as_str()))
    .bind(portal.refused.as_deref())
    .execute(tx.conn())
    .await?;
    tx.wake(TOPIC);
    if portal.encrypted {
        lanes::pause(tx, &Lane::ToMatrix(portal.id), "the room is encrypted").await
    } else {
        lanes::resume(tx, &Lane::ToMatrix(portal.id)).await
    }
}

async fn save_mirrors(
    tx: &mut Tx,
    portal: PortalId,
    known: impl Iterator<Item = (&OwnedUserId, Option<&String>)>,
) -> Result<(), Error> {
    let mut known = known.peekable();
    if known.peek().is_none() {
        return Ok(());
    }
    let mut upsert =
        QueryBuilder::<Engine>::new("INSERT INTO portal_mirrors (portal, user_id, name) ");
    upsert.push_values(known, |mut row, (id, name)| {
        row.push_bind(portal.0).push_bind(id.as_str()).push_bind(name);
    });
    upsert.push(" ON CONFLICT (portal, user_id) DO UPDATE SET name = excluded.name");
    upsert.build().execute(tx.conn()).await?;
    Ok(())
}
