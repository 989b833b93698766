//! A group that one server keeps and another one's bridge carries: two Synapses that federate, and the home's
//! `LiveKit`, by which natives of both and a Matrix user of the other hear each other.

use causeway_groups::calling::Command;
use causeway_protocol::{
    api::CallTopology,
    content::{BridgeRequest, Content},
    ghost,
    roster::Role,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    focus::openid,
    line::{Line, OFTEN, TONES},
    matrix_caller::MatrixCaller,
    people::PATIENCE,
    servers::two,
    sfu::{Sfu, has_calls, joined},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_matrix_user_comes_into_the_call_of_a_group_that_another_server_keeps() {
    let [mut here, mut there] = two().await;
    let (alice, bob) = (here.person("alice").await, there.person("bob").await);
    let group = alice.create_group("Walkers").await;
    alice.add(group, &format!("bob:{}", there.name())).await;
    let dave = there.synapse.register("dave", "secret of dave").await.unwrap();
    // A bridge does what people of its own server ask, unless `bridge.allow` says otherwise.
    let bobs = bob.client.me().account.clone();
    let epoch = alice.client.set_role(group, &bobs, Role::Admin).await.unwrap();
    let knows = async {
        while !bob.client.roster(group).await.is_ok_and(|roster| roster.epoch() >= epoch) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, knows).await.expect("he is told");
    let bridge = bob.client.http().server().await.unwrap().bridge.unwrap();
    bob.client.add_bridge(group, &bridge).await.unwrap();
    let invite = Some(vec![dave.user_id().to_string()]);
    let request = BridgeRequest { room: None, invite };
    bob.send(group, vec![Content::BridgeRequest(request)]).await;
    let room = timeout(PATIENCE, joined(&dave)).await.expect("he is invited");
    let livekit = Sfu::start().await;
    livekit.beside(&mut here.causeway).await;
    let focus = format!("{}/livekit/jwt", there.causeway.appservice_url());
    has_calls(&mut there.synapse, &focus).await;
    there.causeway.stop().await.unwrap();
    there.causeway.start().await.unwrap();

    let mut line = Line::new();
    line.call(&alice, group).await;
    line.call(&bob, group).await;
    line.until_all_hear(None).await;
    assert!(line.states.values().all(|it| it.topology == CallTopology::Mesh && it.bridged));
    // Dave asks his own homeserver's focus, which has no LiveKit of its own.
    let asked = json!({"room": room, "openid_token": openid(&dave).await, "device_id": "PHONE"});
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.post(format!("{focus}/sfu/get")).json(&asked).send().await.unwrap();
    let given: Value = answer.json().await.unwrap();
    assert_eq!(given["url"], json!(livekit.server.url()), "{given}");
    let caller = MatrixCaller::join(&given, TONES[2], &TONES).await;
    let dave_is = |line: &Line| {
        let is_he =
            |guest: &causeway_protocol::api::CallGuest| guest.mirror == dave.user_id().as_str();
        line.states.len() == 2
            && line
                .states
                .values()
                .all(|it| it.topology == CallTopology::Sfu && it.guests().any(is_he))
    };
    line.until("he is in it", dave_is).await;
    line.until_all_hear(line.guest()).await;
    // He knows both by the ghosts of his own server.
    let ways = [&alice, &bob].into_iter().zip(TONES).map(|(person, tone)| {
        let me = person.client.me();
        (ghost::in_call(there.name(), &me.account, &me.record.device_id).unwrap(), tone)
    });
    let ways: Vec<_> = ways.collect();
    line.until("he hears both", |_| {
        let heard = caller.heard();
        ways.iter().all(|way| heard.get(way).is_some_and(|times| *times >= OFTEN))
    })
    .await;

    // The bridge's server dies and comes back: nobody notices.
    there.causeway.kill().unwrap();
    there.causeway.start().await.unwrap();
    line.until_all_hear(line.guest()).await;
    assert!(dave_is(&line), "{:?}", line.states);
    drop(caller);
    line.until("he is out", |line| line.states.values().all(|it| it.guests().count() == 0)).await;
    line.until_all_hear(None).await;
    for commands in &line.commands {
        commands.send(Command::Leave).await.unwrap();
    }
    while line.talking.join_next().await.is_some() {}
}
