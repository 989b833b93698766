//! A group of a thousand at a real server: five of them are there, the others are accounts that are
//! given whatever is given.

use causeway_protocol::{
    api::StreamRow,
    envelope::{Kind, Submission},
    ids::{GroupId, Seq},
    roster::{Role, Scheme},
};
use tempfile::TempDir;

use crate::{
    away::Away,
    cli_server::{NAME, Server, now},
    sdk_device::{Device, new_group},
    signer::entry,
};

const MEMBERS: u32 = 1_000;
/// Entries of one op.
const AT_ONCE: usize = 250;

impl Device {
    async fn knows(&self, group: GroupId) {
        self.client.sync_group(group).await.unwrap();
        self.does_its_chores().await;
    }

    /// Whatever it is handed of this, it shows nothing.
    async fn is_handed_in_vain(&self, sealed: &[Submission]) {
        let before = self.heard();
        let to_all = sealed.iter().filter(|one| one.kind == Kind::Message);
        let rows = (1 << 40..).map(Seq).zip(to_all.flat_map(Submission::rows));
        let rows: Vec<_> = rows.map(|(seq, envelope)| StreamRow { seq, envelope }).collect();
        assert!(!rows.is_empty());
        self.client.receive(&rows).await.unwrap();
        assert_eq!(self.heard(), before);
    }
}

/// It took each that is there minutes to know the others, who were met one by one, all of them read again
/// for each.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_are_one_group_and_who_is_out_or_late_reads_what_is_his() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let url = server.url();
    let ann = Device::register(&server, &folder, "ann").await;
    let mut ben = Device::register(&server, &folder, "ben").await;
    let mut cleo = Device::register(&server, &folder, "cleo").await;
    let mut dora = Device::register(&server, &folder, "dora").await;
    let mut away = Away::register((&url, NAME), 0..MEMBERS - 3, now()).await;
    let group = ann.client.create_group(new_group(Scheme::SenderKeys, "All", MEMBERS)).await;
    let group = group.unwrap();
    let founder = away.remove(0);
    ann.client.add(group, &founder.account, Role::Admin).await.unwrap();
    let there = [&ben, &cleo].map(|one| one.client.me());
    let there = there.map(|me| entry(me.record.device(), me.account.as_str().to_owned()));
    let entries: Vec<_> = there.into_iter().chain(away.iter().map(Away::entry)).collect();
    for entries in entries.chunks(AT_ONCE) {
        founder.add(group, entries.to_vec(), now()).await;
    }
    ann.knows(group).await;
    let roster = ann.client.roster(group).await.unwrap();
    assert_eq!(roster.members().len(), MEMBERS as usize);
    tokio::join!(ben.knows(group), cleo.knows(group));

    ann.say(group, "to all").await;
    ann.does_its_chores().await;
    assert_eq!(ben.hear(1).await, ["to all"]);
    assert_eq!(cleo.hear(1).await, ["to all"]);

    ann.client.remove(group, &ben.client.me().account).await.unwrap();
    let batch = ann.sealed(group, "without Ben").await;
    ann.client.post(&batch).await.unwrap();
    ann.does_its_chores().await;
    assert_eq!(cleo.hear(2).await[1], "without Ben");
    ben.is_handed_in_vain(&batch.submissions).await;

    ann.client.add(group, &dora.client.me().account, Role::Member).await.unwrap();
    dora.client.sync_group(group).await.unwrap();
    ann.say(group, "with Dora").await;
    assert_eq!(dora.hear(1).await, ["with Dora"], "and nothing of before");
    assert_eq!(cleo.hear(3).await[2], "with Dora");
    dora.is_handed_in_vain(&batch.submissions).await;
}
