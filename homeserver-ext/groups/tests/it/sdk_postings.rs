//! How a pairwise message goes to a real server: by places in a roster that both have.

use causeway_groups::{
    machine::Batch,
    sdk::{CallError, SdkError},
};
use causeway_protocol::{
    api::Accepted,
    ids::GroupId,
    posting::Posting,
    roster::{Role, Scheme},
};
use tempfile::TempDir;

use crate::{
    cli_proxy::Proxy,
    cli_server::Server,
    sdk_device::{Device, new_group},
};

struct Crowd {
    /// What Ann's device takes for the server.
    proxy: Proxy,
    server: Server,
    folder: TempDir,
    group: GroupId,
    ann: Device,
    ben: Device,
    cleo: Device,
}

impl Crowd {
    async fn new() -> Self {
        let (server, folder) = (Server::start(), TempDir::new().unwrap());
        let proxy = Proxy::before(server.address());
        let ann = Device::register_at(&proxy.url(), &folder, "ann").await;
        let ben = Device::register(&server, &folder, "ben").await;
        let cleo = Device::register(&server, &folder, "cleo").await;
        let new = new_group(Scheme::Pairwise, "Pairs", 10);
        let group = ann.client.create_group(new).await.unwrap();
        for one in [&ben, &cleo] {
            ann.client.add(group, &one.client.me().account, Role::Admin).await.unwrap();
        }
        ben.client.sync_group(group).await.unwrap();
        let crowd = Self { proxy, server, folder, group, ann, ben, cleo };
        crowd.ann.say(group, "hello").await;
        crowd
    }

    async fn post(&self, batch: &Batch) -> Accepted {
        loop {
            match self.ann.client.post(batch).await {
                Ok(taken) => return taken,
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        }
    }

    /// Whether the server takes it as it is named by what its sender knows.
    async fn is_taken_by_places(&self, batch: &Batch) -> bool {
        let roster = self.ann.client.roster(self.group).await.unwrap();
        let posting = Posting::of(&batch.submissions, 0, &roster).unwrap();
        let bytes = posting.to_bytes().unwrap();
        match self.ann.client.http().post_fan_outs(self.group, bytes).await {
            Ok(_) => true,
            Err(error) if error.is_refusal("DEV_CAUSEWAY_OTHER_ROSTER") => false,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn an_op_that_meets_it_has_devices_named_anew_and_nothing_sealed_again() {
    let mut crowd = Crowd::new().await;
    let dora = Device::register(&crowd.server, &crowd.folder, "dora").await;
    let batch = crowd.ann.sealed(crowd.group, "one").await;
    // Another admin lets somebody in, of which Ann's device has not heard.
    let account = dora.client.me().account.clone();
    crowd.ben.client.add(crowd.group, &account, Role::Member).await.unwrap();
    assert!(!crowd.is_taken_by_places(&batch).await);
    crowd.server.stop();
    crowd.server.start_again();
    let taken = crowd.post(&batch).await;
    assert_eq!(taken.accepted[0].id, batch.messages[0].first);
    assert_eq!(taken.accepted[0].recipients, 2, "who is new was given no piece");
    let roster = crowd.ann.client.roster(crowd.group).await.unwrap();
    assert_eq!(roster.members().len(), 4, "and Ann's device knows of the op");
    assert!(crowd.is_taken_by_places(&batch).await, "which is how it went");
    for one in [&mut crowd.ben, &mut crowd.cleo] {
        assert_eq!(one.hear(2).await, ["hello", "one"]);
    }
}

#[tokio::test]
async fn one_who_is_out_has_no_place_and_it_is_sealed_anew() {
    let mut crowd = Crowd::new().await;
    let batch = crowd.ann.sealed(crowd.group, "one").await;
    let account = crowd.cleo.client.me().account.clone();
    crowd.ben.client.remove(crowd.group, &account).await.unwrap();
    let refused = crowd.ann.client.post(&batch).await.unwrap_err();
    assert!(matches!(refused, SdkError::Call(CallError::Stale { .. })));
    // So it is where Ann's device knows of the op, and there is no place to name.
    crowd.ann.client.sync_group(crowd.group).await.unwrap();
    assert!(crowd.ann.client.post(&batch).await.is_err());
    crowd.ann.say(crowd.group, "one again").await;
    assert_eq!(crowd.ben.hear(2).await, ["hello", "one again"]);
}

#[tokio::test]
async fn what_was_taken_before_an_op_and_not_answered_is_read_once() {
    let mut crowd = Crowd::new().await;
    let dora = Device::register(&crowd.server, &crowd.folder, "dora").await;
    let batch = crowd.ann.sealed(crowd.group, "one").await;
    crowd.proxy.lose_answers_to("/fan-outs", 1);
    assert!(crowd.ann.client.post(&batch).await.unwrap_err().is_transient());
    assert_eq!(crowd.proxy.lost(), 1);
    let account = dora.client.me().account.clone();
    crowd.ben.client.add(crowd.group, &account, Role::Member).await.unwrap();
    assert_eq!(crowd.post(&batch).await.accepted[0].recipients, 2);
    crowd.ann.say(crowd.group, "two").await;
    for one in [&mut crowd.ben, &mut crowd.cleo] {
        assert_eq!(one.hear(3).await, ["hello", "one", "two"]);
    }
}

#[tokio::test]
async fn a_server_of_before_gets_it_with_names() {
    let mut crowd = Crowd::new().await;
    crowd.proxy.is_of_before();
    // A process that has not asked before.
    crowd.ann.restart(|_| {}).await;
    for text in ["one", "two"] {
        crowd.ann.say(crowd.group, text).await;
    }
    for one in [&mut crowd.ben, &mut crowd.cleo] {
        assert_eq!(one.hear(3).await, ["hello", "one", "two"]);
    }
}
