//! Tables: which distribution is taken, and which message may be opened.

use causeway_protocol::{
    device::DeviceOf,
    ids::{AccountId, ChainId, DeviceId, Epoch, MemberId, Seq},
    olm_plaintext::OlmPlaintext,
    roster::{Arrival, Verdict, is_dropped_in_channel},
};
use serde_json::Value;

use super::{
    histories::log,
    report::{Check, Failure, Fields, Named, Vectors, same, unhex},
    travels::recipient,
};

pub(crate) fn distribution(vectors: &Vectors<'_>, case: &Value) -> Check {
    let section = vectors.0.field("distribution_cases")?;
    let ops: Vec<Value> = section.items("history")?.into_iter().cloned().collect();
    let log = log(&ops)?;
    let peer = device_of(vectors, DeviceId::new(case.array("olm_peer")?))?;
    let held = case.names("held", ChainId::new)?;
    let got = match OlmPlaintext::parse(&case.bytes("plaintext")?) {
        Ok(OlmPlaintext::Distribution(distribution)) => {
            same("chain_id", distribution.chain_id().as_bytes(), &case.array("chain_id")?)?;
            let me = recipient(section)?;
            let judged = distribution.judge(Some(&log), &me, &peer, |id| held.contains(id));
            judged.map_or_else(|refused| refused.to_string(), |()| "ok".to_owned())
        }
        _ => "malformed".to_owned(),
    };
    same("result", got.as_str(), case.text("result")?)
}

/// The member whose record the device has, among the people of the vectors.
pub(crate) fn device_of(vectors: &Vectors<'_>, device_id: DeviceId) -> Result<DeviceOf, Failure> {
    let id = hex::encode(device_id);
    let has = |person: &Value| {
        let devices = person.items("devices").unwrap_or_default();
        devices.into_iter().any(|device| device["device_id"] == id.as_str())
    };
    let person = vectors.person(has).ok_or_else(|| Failure("nobody's device".to_owned()))?;
    Ok(DeviceOf { member_id: MemberId::new(person.array("member_id")?), device_id })
}

/// A row of a table of receive rules.
pub(crate) struct Row<'a>(&'a Value);

impl Named for (&Value, Row<'_>) {
    fn name(&self) -> String {
        self.1.0["name"].to_string()
    }
}

pub(crate) fn rows(file: &Value) -> Result<Vec<(&Value, Row<'_>)>, Failure> {
    let rules = file.field("receive_rules")?;
    let mut all = Vec::new();
    for table in [rules].into_iter().chain(rules.items("more")?) {
        all.extend(table.items("rows")?.into_iter().map(|row| (table, Row(row))));
    }
    Ok(all)
}

pub(crate) fn row(vectors: &Vectors<'_>, table: &Value, row: &Row<'_>) -> Check {
    let row = row.0;
    let ops: Vec<Value> = table.items("history")?.into_iter().cloned().collect();
    let mut log = log(&ops)?;
    for (epoch, place) in (0..).zip(table.items("op_seq")?) {
        let place = place.as_u64().ok_or_else(|| Failure("no place".to_owned()))?;
        log.put_place(Epoch(epoch), Seq(place));
    }
    for (entry, hash) in log.entries().iter().zip(table.items("roster_hashes")?) {
        same("roster hash", entry.roster_hash.as_bytes().as_slice(), &unhex(hash)?)?;
    }
    let sender = DeviceOf {
        member_id: MemberId::new(row.array("sender_member")?),
        device_id: DeviceId::new(row.array("sender_device")?),
    };
    let member = row.text("sender_member")?;
    let person = vectors.person(|person| person["member_id"] == member);
    let account: AccountId =
        person.ok_or_else(|| Failure("nobody".to_owned()))?.text("account")?.parse()?;
    let chain = Epoch(row.number("chain_epoch")?);
    let message = Arrival {
        sender,
        account: &account,
        key_epoch: row.flag("chain_held")?.then_some(chain),
        header_epoch: Epoch(row.number("header_epoch")?),
        hint: row.array("roster_hint")?,
        place: Seq(row.number("seq")?),
    };
    let verdict = log.judge(&message);
    let roster = log.by_hint(message.header_epoch, message.hint);
    let number = row.number("type")?;
    let dropped = matches!(verdict, Verdict::Open { .. })
        && roster.is_some_and(|roster| is_dropped_in_channel(roster, &sender, number));
    let got = if dropped { "dropped_in_channel" } else { verdict.reason() };
    same("verdict", got, row.text("verdict")?)
}
