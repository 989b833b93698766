//! The native groups, where there is nobody here to ask about them.

use causeway_server::admin::{Admin, Problem};

/// `GET /_causeway/admin/v1/groups` – 404: the native server runs in another process.
pub(in crate::http) async fn elsewhere(_: Admin) -> Problem {
    Problem::NotFound("list of groups here: ask the native server")
}
