//! `invite list`: a group's invites, as the server counts them.

use causeway_protocol::{api::InviteState, ids::Timestamp};
use serde_json::json;

use super::super::{
    exit::Failure,
    home::Home,
    names::{self, Named},
    print::{Printer, table},
};

pub(super) async fn run(named: &Named, home: &Home, printer: Printer) -> Result<(), Failure> {
    let client = home.client().await?;
    let group = names::group(&client, &named.group).await?;
    let invites = client.invites(group).await?;
    let now = client.now();
    let rows = invites.iter().map(|invite| {
        [
            invite.ik_pub.to_string(),
            invite.by.to_string(),
            format!("{} of {}", invite.used, invite.uses),
            state(invite, now),
        ]
    });
    let text = if invites.is_empty() {
        "There are no invites.".to_owned()
    } else {
        table(["key", "by", "used", "state"], rows)
    };
    printer.show(&text, &json!({"group": group, "invites": invites}))
}

fn state(invite: &InviteState, now: Timestamp) -> String {
    let left_ms = invite.expires_ms.0.saturating_sub(now.0);
    if invite.revoked {
        "taken back".to_owned()
    } else if left_ms == 0 {
        "expired".to_owned()
    } else if invite.used >= invite.uses {
        "used up".to_owned()
    } else {
        format!("good for {} h", left_ms.div_ceil(60 * 60 * 1_000))
    }
}
