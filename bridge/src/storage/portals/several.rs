//! Many portals at once, each with its people.

use std::collections::{BTreeMap, BTreeSet};

use causeway_protocol::ids::GroupId;
use causeway_store::{Rows, Script};
use ruma::OwnedRoomId;
use sqlx::Row as _;

use super::{
    super::{Error, lanes::Asides},
    add_one, bare,
};
use crate::domain::{
    ghost::Names,
    portal::{Portal, PortalId},
};

/// Asks for the portals of these rooms, for [`read_of_rooms`].
pub fn select_of_rooms<'a>(script: &mut Script, rooms: impl Iterator<Item = &'a str>) {
    let rooms: Vec<&str> = rooms.collect();
    if rooms.is_empty() {
        return;
    }
    script.add_list(
        "SELECT portal, group_id, room_id, name, state, encrypted, lost, successor,
                hears_from, refused
         FROM portals WHERE room_id IN (",
        rooms.clone(),
    );
    script.add_list(
        "SELECT m.user_id, m.name, NULL AS account, m.portal FROM portal_mirrors m
         JOIN portals p ON p.portal = m.portal WHERE p.room_id IN (",
        rooms.clone(),
    );
    script.add_list(
        "SELECT g.removed_by, NULL AS name, g.account, g.portal FROM ghost_rooms g
         JOIN portals p ON p.portal = g.portal
         WHERE g.membership = 'removed' AND p.room_id IN (",
        rooms.clone(),
    );
    script.add_list(
        "SELECT i.user_id, NULL AS name, NULL AS account, i.portal FROM portal_invited i
         JOIN portals p ON p.portal = i.portal WHERE p.room_id IN (",
        rooms,
    );
}

/// Reads what [`select_of_rooms`] asked for.
///
/// # Errors
/// [`Error`]
pub fn read_of_rooms(
    names: &Names,
    rows: &mut Rows,
) -> Result<BTreeMap<OwnedRoomId, Portal>, Error> {
    let by_room = read(names, rows)?.into_values().map(|portal| (portal.room.clone(), portal));
    Ok(by_room.filter_map(|(room, portal)| Some((room?, portal))).collect())
}

/// Asks for the portals of these groups, and what of them stands aside, for [`read_of_groups`].
pub fn select_of_groups(script: &mut Script, groups: &BTreeSet<GroupId>) {
    let groups: Vec<Vec<u8>> = groups.iter().map(|group| group.as_bytes().to_vec()).collect();
    if groups.is_empty() {
        return;
    }
    script.add_list(
        "SELECT portal, group_id, room_id, name, state, encrypted, lost, successor,
                hears_from, refused
         FROM portals WHERE group_id IN (",
        groups.clone(),
    );
    script.add_list(
        "SELECT m.user_id, m.name, NULL AS account, m.portal FROM portal_mirrors m
         JOIN portals p ON p.portal = m.portal WHERE p.group_id IN (",
        groups.clone(),
    );
    script.add_list(
        "SELECT g.removed_by, NULL AS name, g.account, g.portal FROM ghost_rooms g
         JOIN portals p ON p.portal = g.portal
         WHERE g.membership = 'removed' AND p.group_id IN (",
        groups.clone(),
    );
    script.add_list(
        "SELECT i.user_id, NULL AS name, NULL AS account, i.portal FROM portal_invited i
         JOIN portals p ON p.portal = i.portal WHERE p.group_id IN (",
        groups.clone(),
    );
    // Whatever begins with the first comes before the second.
    script.add_list(
        "SELECT l.lane FROM portals p
         JOIN lanes l ON l.lane > 'portal/' || p.portal || '/to_matrix/'
                     AND l.lane < 'portal/' || p.portal || '/to_matrix0'
         WHERE l.ready = TRUE AND p.group_id IN (",
        groups.clone(),
    );
    script.add_list(
        "SELECT l.lane FROM portals p
         JOIN lanes l ON l.lane > 'bot/' || p.portal || '/' AND l.lane < 'bot/' || p.portal || '0'
         WHERE l.ready = TRUE AND p.group_id IN (",
        groups,
    );
}

/// Reads what [`select_of_groups`] asked for.
///
/// # Errors
/// [`Error`]
pub fn read_of_groups(
    names: &Names,
    rows: &mut Rows,
) -> Result<(BTreeMap<GroupId, Portal>, Asides), Error> {
    let portals = read(names, rows)?;
    let mut asides = Asides { of: portals.keys().copied().collect(), lanes: BTreeSet::new() };
    for row in (0..2).flat_map(|_| rows.take()) {
        let lane: String = row.try_get(0)?;
        asides.lanes.insert(lane.parse().map_err(|_| Error::Row("lanes.lane"))?);
    }
    Ok((portals.into_values().map(|portal| (portal.group, portal)).collect(), asides))
}

/// What four statements returned: the portals, and three times people.
fn read(names: &Names, rows: &mut Rows) -> Result<BTreeMap<PortalId, Portal>, Error> {
    let mut portals = BTreeMap::new();
    for row in rows.take() {
        let portal = bare(names, &row)?;
        portals.insert(portal.id, portal);
    }
    for row in (0..3).flat_map(|_| rows.take()) {
        let portal = portals.get_mut(&PortalId(row.try_get(3)?));
        add_one(portal.ok_or(Error::Row("portals.portal"))?, &row)?;
    }
    Ok(portals)
}
