//! A group with a room: Causeway beside Synapse, and Alice, who lets the bridge in.

use causeway_bridge::demo::{
    causeway::{Causeway, Listeners},
    matrix_user::MatrixUser,
    progress::Progress,
    synapse::Synapse,
};
use causeway_protocol::{ids::GroupId, roster::Scheme};

use crate::{people::Person, start::binary};

/// Everything that runs; ended when dropped.
pub(crate) struct Bridged {
    pub(crate) causeway: Causeway,
    pub(crate) alice: Person,
    pub(crate) carol: MatrixUser,
    pub(crate) group: GroupId,
    pub(crate) synapse: Synapse,
}

impl Bridged {
    /// Starts all; Carol (password `secret of carol`) is invited.
    pub(crate) async fn start() -> Self {
        Self::start_in(async |alice| alice.create_group("Walkers").await).await
    }

    /// As [`start`](Self::start), with a group of this scheme.
    pub(crate) async fn start_as(scheme: Scheme) -> Self {
        Self::start_in(async |alice| alice.create_group_as("Walkers", scheme).await).await
    }

    /// As [`start`](Self::start), where only admins write in the group.
    pub(crate) async fn start_channel(scheme: Scheme) -> Self {
        Self::start_in(async |alice| alice.create_channel("Walkers", scheme).await).await
    }

    async fn start_in(group: impl AsyncFnOnce(&Person) -> GroupId) -> Self {
        let listeners = Listeners::free().unwrap();
        let synapse = Synapse::start(&listeners.appservice_url(), &Progress::new()).await.unwrap();
        let mut causeway = Causeway::prepare(
            binary(),
            &synapse.dir().join("causeway"),
            &synapse.url(),
            synapse.server_name(),
            listeners,
            synapse.registration(),
        )
        .unwrap();
        causeway.start().await.unwrap();
        let token = causeway.registration_token().unwrap();
        let carol = synapse.register("carol", "secret of carol").await.unwrap();
        let name = format!("alice:{}", synapse.server_name());
        let alice = Person::register(causeway.native_url(), &name, token.expose()).await;
        let group = group(&alice).await;
        alice.bridge(group, &[carol.user_id().as_str()]).await;
        Self { causeway, alice, carol, group, synapse }
    }
}
