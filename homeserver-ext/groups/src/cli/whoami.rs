//! `whoami`: the account and device of this home.

use causeway_protocol::keys::fingerprint;
use serde_json::json;

use super::{exit::Failure, home::Home, print::Printer};

pub(super) async fn run(home: &Home, printer: Printer) -> Result<(), Failure> {
    let client = home.client().await?;
    let me = client.me();
    let fingerprint = fingerprint(&me.record.member_id);
    let server_url = client.http().base();
    let text = format!(
        "{}\n  server       {server_url}\n  identity     {}\n  fingerprint  {fingerprint}\n  \
         device       {}\n  home         {}",
        me.account,
        me.record.member_id,
        me.record.device_id,
        home.dir().display(),
    );
    printer.show(
        &text,
        &json!({
            "account": me.account, "member_id": me.record.member_id, "fingerprint": fingerprint,
            "device_id": me.record.device_id, "server_url": server_url, "home": home.dir(),
        }),
    )
}
