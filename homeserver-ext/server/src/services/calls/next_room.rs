//! What rooms on the server for bigger calls are called into which those of Matrix may come.

use causeway_store::Conn;

use crate::storage::{self, GroupRow, group_rooms};

/// What the room of a group's next call is called, where those of Matrix may come: LiveKit takes no token
/// back, so each call has a room of its own. By its name nobody finds another one.
pub(super) async fn of_next_call(
    conn: &mut Conn,
    group: GroupRow,
) -> Result<String, storage::Error> {
    if let Some(room) = group_rooms::of(conn, group).await? {
        return Ok(room);
    }
    let room = drawn()?;
    group_rooms::put(conn, group, &room).await?;
    Ok(room)
}

/// A name that nobody knows yet; 32 hex digits, as all rooms of groups' calls have.
pub(super) fn drawn() -> Result<String, storage::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
