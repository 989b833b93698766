//! Accounts of this server, shown to another before the ops that name them.

use causeway_protocol::{
    ids::{AccountId, GroupId},
    roster::{Body, Op},
};
use causeway_store::Conn;
use serde_json::{Value, json};

use crate::storage::{self, accounts, devices, groups};

/// Characters of accounts in one item.
const MAX_ACCOUNTS: usize = 50_000;

/// What this server's accounts are that these ops name, in items of their size.
pub(super) async fn named(
    conn: &mut Conn,
    here: &str,
    group: GroupId,
    ops: &[Vec<u8>],
) -> Result<Vec<Vec<Value>>, storage::Error> {
    let mut accounts: Vec<AccountId> = Vec::new();
    let roster = match groups::by_id(conn, group).await? {
        Some(group) => Some(groups::roster(conn, group.row).await?),
        None => None,
    };
    for op in ops.iter().filter_map(|op| Op::parse(op).ok()) {
        let of_signer = roster.as_ref().and_then(|it| it.member(&op.signer().member_id));
        accounts.extend(of_signer.map(|member| member.account.clone()));
        match op.body() {
            Ok(Body::Create(create)) => accounts.extend(create.account.parse()),
            Ok(Body::Add(entries)) => {
                accounts.extend(entries.iter().filter_map(|entry| entry.account.parse().ok()));
            }
            _ => {}
        }
    }
    accounts.retain(|account| account.server() == here);
    accounts.sort();
    accounts.dedup();
    let (mut items, mut some, mut size) = (Vec::new(), Vec::new(), 0);
    for account in accounts {
        let Some(shown) = shown(conn, &account).await? else { continue };
        let bytes = shown.to_string().len();
        if size + bytes > MAX_ACCOUNTS && !some.is_empty() {
            items.push(std::mem::take(&mut some));
            size = 0;
        }
        size += bytes;
        some.push(shown);
    }
    items.extend((!some.is_empty()).then_some(some));
    Ok(items)
}

/// List and records of an account.
async fn shown(conn: &mut Conn, account: &AccountId) -> Result<Option<Value>, storage::Error> {
    let Some(list) = accounts::list(conn, account).await? else { return Ok(None) };
    let devices = devices::records(conn, account).await?;
    Ok(Some(json!({ "list": list, "devices": devices })))
}
