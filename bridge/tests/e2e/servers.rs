//! Two homeservers that federate over TLS, each with its Causeway: what one asks the other.

use causeway_bridge::demo::{
    causeway::{Causeway, Listeners},
    progress::Progress,
    synapse::Synapse,
};
use causeway_groups::sdk::CallError;

use crate::{people::Person, start::binary};

/// One of the two.
struct Side {
    causeway: Causeway,
    synapse: Synapse,
}

impl Side {
    fn name(&self) -> &str {
        self.synapse.server_name()
    }

    async fn person(&self, name: &str) -> Person {
        let token = self.causeway.registration_token().unwrap();
        let name = format!("{name}:{}", self.name());
        Person::register(self.causeway.native_url(), &name, token.expose()).await
    }
}

async fn two() -> [Side; 2] {
    let listeners = [Listeners::free().unwrap(), Listeners::free().unwrap()];
    let urls = listeners.map(|listeners| listeners.appservice_url());
    let synapses = Synapse::start_federation(&urls, &Progress::new()).await.unwrap();
    let mut sides = Vec::new();
    for (synapse, listeners) in synapses.into_iter().zip(listeners) {
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
        sides.push(Side { causeway, synapse });
    }
    sides.try_into().ok().unwrap()
}

#[tokio::test]
async fn accounts_and_keys_cross_between_real_homeservers_through_restarts_of_each_part() {
    let [mut here, mut there] = two().await;
    let (alice, _carol) = (here.person("alice").await, there.person("carol").await);
    let http = alice.client.http();
    let account = format!("carol:{}", there.name()).parse().unwrap();
    let found = http.account(&account).await.unwrap();
    assert_eq!(found.list.account, account);
    let devices: Vec<_> = found.list.devices.clone();
    let claim = async || {
        let claimed = http.claim_keys(devices.clone()).await.unwrap();
        claimed.keys.get(&devices[0]).expect("a key").verify(&devices[0]).unwrap();
    };
    claim().await;
    // Whoever is not there, and whoever is nobody's.
    let nobody = format!("nobody:{}", there.name()).parse().unwrap();
    let error = http.account(&nobody).await.unwrap_err();
    assert!(matches!(&error, CallError::Refused { status: 404, .. }), "{error}");

    // Each part ends as in a power cut, and comes back.
    there.causeway.kill().unwrap();
    there.causeway.start().await.unwrap();
    claim().await;
    here.causeway.kill().unwrap();
    here.causeway.start().await.unwrap();
    claim().await;
    there.synapse.kill().unwrap();
    there.synapse.start_again().await.unwrap();
    claim().await;
    here.synapse.kill().unwrap();
    here.synapse.start_again().await.unwrap();
    claim().await;
}
