//! Two homeservers that federate over TLS, each with its Causeway: what one asks the other.

use causeway_bridge::demo::{
    causeway::{Causeway, Listeners},
    progress::Progress,
    synapse::Synapse,
};
use causeway_groups::sdk::CallError;
use causeway_protocol::roster::{Role, Scheme};
use serde_json::{Value, json};

use crate::{
    backup::{after_restore, causeway_run, done},
    people::{PATIENCE, Person, Read},
    start::binary,
};

/// One of them.
pub(crate) struct Side {
    pub(crate) causeway: Causeway,
    pub(crate) synapse: Synapse,
}

impl Side {
    pub(crate) fn name(&self) -> &str {
        self.synapse.server_name()
    }

    pub(crate) async fn person(&self, name: &str) -> Person {
        let token = self.causeway.registration_token().unwrap();
        let name = format!("{name}:{}", self.name());
        Person::register(self.causeway.native_url(), &name, token.expose()).await
    }
}

pub(crate) async fn two() -> [Side; 2] {
    several().await
}

/// So many homeservers that federate, each with its Causeway.
pub(crate) async fn several<const N: usize>() -> [Side; N] {
    several_behind(async |url| ((), url)).await.0
}

/// Two, each with something between its Causeway and its homeserver.
pub(crate) async fn two_behind<P>(
    between: impl AsyncFn(String) -> (P, String),
) -> ([Side; 2], [P; 2]) {
    several_behind(between).await
}

/// So many, likewise.
pub(crate) async fn several_behind<P, const N: usize>(
    between: impl AsyncFn(String) -> (P, String),
) -> ([Side; N], [P; N]) {
    let (sides, placed, _) = several_between(between, async |url| ((), url)).await;
    (sides, placed)
}

/// Two, each with something between its homeserver and its Causeway.
pub(crate) async fn two_told_by<P>(
    between: impl AsyncFn(String) -> (P, String),
) -> ([Side; 2], [P; 2]) {
    let (sides, _, placed) = several_between(async |url| ((), url), between).await;
    (sides, placed)
}

/// So many, each with something on its Causeway's way to its homeserver, and on the way back.
async fn several_between<P, Q, const N: usize>(
    there: impl AsyncFn(String) -> (P, String),
    back: impl AsyncFn(String) -> (Q, String),
) -> ([Side; N], [P; N], [Q; N]) {
    let listeners: [Listeners; N] = std::array::from_fn(|_| Listeners::free().unwrap());
    let (mut urls, mut all_back) = (Vec::new(), Vec::new());
    for listeners in &listeners {
        let (placed, url) = back(listeners.appservice_url()).await;
        all_back.push(placed);
        urls.push(url);
    }
    let synapses = Synapse::start_federation(&urls, &Progress::new()).await.unwrap();
    let (mut sides, mut all_there) = (Vec::new(), Vec::new());
    for (synapse, listeners) in synapses.into_iter().zip(listeners) {
        let (placed, url) = there(synapse.url()).await;
        all_there.push(placed);
        let mut causeway = Causeway::prepare(
            binary(),
            &synapse.dir().join("causeway"),
            &url,
            synapse.server_name(),
            listeners,
            synapse.registration(),
        )
        .unwrap();
        causeway.start().await.unwrap();
        sides.push(Side { causeway, synapse });
    }
    let all = (sides.try_into().ok(), all_there.try_into().ok(), all_back.try_into().ok());
    (all.0.unwrap(), all.1.unwrap(), all.2.unwrap())
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

/// Both say so much, wherever the other is, while `trouble` happens to them.
async fn both_read_all(scheme: Scheme, count: usize, trouble: impl AsyncFn(&mut [Side; 2], usize)) {
    let mut sides = two().await;
    let (alice, carol) = (sides[0].person("alice").await, sides[1].person("carol").await);
    let group = alice.create_group_as("Garden", scheme).await;
    alice.add(group, &format!("carol:{}", sides[1].name())).await;
    // Who has read something is in.
    alice.say(group, &["hello".to_owned()]).await;
    carol.wait("a welcome", |read| read.len() == 1).await;
    let said = |who: &str| (0..count).map(|n| format!("{who} {n}")).collect::<Vec<_>>();
    let (hers, his) = (said("alice"), said("carol"));
    let rounds = 5;
    for round in 0..rounds {
        let part = |all: &[String]| {
            let each = count / rounds;
            all[round * each..(round + 1) * each].to_vec()
        };
        let (one, other) = (part(&hers), part(&his));
        tokio::join!(alice.say(group, &one), carol.say(group, &other));
        trouble(&mut sides, round).await;
    }
    let bodies = |read: &[Read]| read.iter().map(|read| read.body.clone()).collect::<Vec<_>>();
    alice.wait("carol's words", |read| read.len() >= count).await;
    carol.wait("alice's words", |read| read.len() > count).await;
    // In order, and each once.
    assert_eq!(bodies(&alice.read()), his);
    assert_eq!(bodies(&carol.read()[1..]), hers);

    // Whoever is out reads nothing more, and no server has read anything.
    let carols = format!("carol:{}", sides[1].name()).parse().unwrap();
    alice.client.remove(group, &carols).await.unwrap();
    alice.say(group, &["canary after removal".to_owned()]).await;
    assert_eq!(carol.read().len(), count + 1);
    for side in &sides {
        assert_nothing_is_read(side.synapse.dir(), &["alice 0", "carol 0", "canary after"]);
    }
}

/// That no file below this folder, which is the homeserver's and Causeway's, has any of these words in it.
pub(crate) fn assert_nothing_is_read(folder: &std::path::Path, words: &[&str]) {
    let mut folders = vec![folder.to_path_buf()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap_or_default();
            files += 1;
            for word in words {
                let is_in = bytes.windows(word.len()).any(|part| part == word.as_bytes());
                assert!(!is_in, "{word:?} is in {}", path.display());
            }
        }
    }
    assert!(files > 5);
}

#[tokio::test]
async fn a_sender_keys_group_on_two_homeservers_through_kills_of_each_part() {
    both_read_all(Scheme::SenderKeys, 100, async |sides, round| {
        match round {
            0 => sides[1].causeway.kill().unwrap(),
            1 => sides[0].synapse.kill().unwrap(),
            2 => sides[0].causeway.kill().unwrap(),
            3 => sides[1].synapse.kill().unwrap(),
            _ => {}
        }
        for side in sides.iter_mut() {
            if round == 1 || round == 3 {
                side.synapse.start_again().await.unwrap();
            }
            side.causeway.start().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_pairwise_group_on_two_homeservers() {
    both_read_all(Scheme::Pairwise, 25, async |_, _| {}).await;
}

#[tokio::test]
async fn a_shared_key_group_on_two_homeservers() {
    both_read_all(Scheme::SharedKey, 25, async |_, _| {}).await;
}

#[tokio::test]
async fn who_is_on_another_homeserver_speaks_in_a_bridged_room_and_hears_it() {
    let sides = two().await;
    let (alice, carol) = (sides[0].person("alice").await, sides[1].person("carol").await);
    let [here, there] = [0, 1].map(|n: usize| sides[n].name().to_owned());
    let mona = sides[0].synapse.register("mona", "secret of mona").await.unwrap();
    let group = alice.create_group_as("Garden", Scheme::SenderKeys).await;
    alice.add(group, &format!("carol:{there}")).await;
    alice.bridge(group, &[mona.user_id().as_str()]).await;
    let room = loop {
        if let Some(room) = mona.sync().await.unwrap().invites.pop() {
            break room;
        }
    };
    mona.join(&room).await.unwrap();
    alice.say(group, &["hello".to_owned()]).await;
    carol.wait("a welcome", |read| !read.is_empty()).await;
    carol.say(group, &["from afar".to_owned()]).await;
    // It is said by a ghost of the bridge's homeserver that names hers.
    let ghost = format!("@causeway__{}/carol:{here}", there.replace(':', "=3a"));
    let said = async {
        loop {
            for seen in mona.sync().await.unwrap().events {
                if seen.text("/content/body") == Some("from afar") {
                    return seen.text("/sender").map(str::to_owned);
                }
            }
        }
    };
    let said = tokio::time::timeout(PATIENCE, said).await.expect("carol is heard in the room");
    assert_eq!(said, Some(ghost));
    mona.say(&room, "to afar").await.unwrap();
    carol.wait("what is said in the room", |read| read.iter().any(|r| r.body == "to afar")).await;
    assert_eq!(carol.mirrored(), ["to afar"]);
}

/// The client as people run it, with a home of its own; what it printed, and said on stderr.
pub(crate) async fn client(
    home: &std::path::Path,
    server: &str,
    arguments: &[&str],
) -> (Option<i32>, String, String) {
    client_that_says("json", home, server, arguments).await
}

async fn client_that_says(
    form: &str,
    home: &std::path::Path,
    server: &str,
    arguments: &[&str],
) -> (Option<i32>, String, String) {
    let output = tokio::process::Command::new(binary())
        .args(["client", "--output", form, "--home"])
        .arg(home)
        .args(["--server", server])
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .unwrap();
    let [said, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), said, stderr)
}

/// What `group show` says of one of a group's two servers.
fn of(shown: &str, name: &str) -> Value {
    let shown: Value = serde_json::from_str(shown).unwrap();
    let servers = shown["servers"].as_array().unwrap();
    assert_eq!(servers.len(), 2, "{shown}");
    servers.iter().find(|it| it["server"] == name).unwrap().clone()
}

#[tokio::test]
async fn links_let_people_in_across_two_homeservers_through_kills_of_each_part() {
    let [mut here, mut there] = two().await;
    let (alice, carol) = (here.person("alice").await, there.person("carol").await);
    let group = alice.create_group_as("Garden", Scheme::SenderKeys).await;
    let expires = alice.client.now().plus_ms(3_600_000);
    let link = alice.client.create_invite(group, expires, 1).await.unwrap();
    carol.client.ask_to_join(&link).await.unwrap();
    assert!(carol.client.wait_to_join(group, PATIENCE).await.unwrap());
    alice.say(group, &["welcome".to_owned()]).await;
    carol.wait("a welcome", |read| read.len() == 1).await;
    carol.say(group, &["thanks".to_owned()]).await;
    alice.wait("thanks", |read| read.len() == 1).await;

    // An admin of the other server than the home, whose parts end as in a power cut and come back.
    let carols = format!("carol:{}", there.name()).parse().unwrap();
    alice.client.set_role(group, &carols, Role::Admin).await.unwrap();
    carol.client.sync_group(group).await.unwrap();
    there.causeway.kill().unwrap();
    here.synapse.kill().unwrap();
    here.synapse.start_again().await.unwrap();
    there.causeway.start().await.unwrap();
    let link = loop {
        carol.client.sync_group(group).await.unwrap();
        if let Ok(link) = carol.client.create_invite(group, expires, 2).await {
            break link;
        }
    };
    assert_eq!(link.terms.server, here.name(), "it names the group's home");
    let bob = here.person("bob").await;
    there.causeway.kill().unwrap();
    bob.client.ask_to_join(&link).await.unwrap();
    there.causeway.start().await.unwrap();
    assert!(bob.client.wait_to_join(group, PATIENCE).await.unwrap());

    // As people do it, with the command.
    let folder = tempfile::tempdir().unwrap();
    let url = there.causeway.native_url().to_owned();
    let token = there.causeway.registration_token().unwrap();
    let link_text = link.to_text();
    let run = async |arguments: &[&str]| client(folder.path(), &url, arguments).await;
    let (code, _, said) = run(&["register", "dan", "--token", token.expose()]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, joined, said) = run(&["invite", "accept", &link_text]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(joined.contains("\"members\":4"), "{joined}");
    let (code, _, said) = run(&["send", "Garden", "by hand"]).await;
    assert_eq!(code, Some(0), "{said}");
    alice.wait("dan's words", |read| read.iter().any(|read| read.body == "by hand")).await;
    bob.wait("dan's words", |read| read.iter().any(|read| read.body == "by hand")).await;
    // On which servers the group is.
    let show = async |form: &str| {
        let arguments = ["group", "show", "Garden"];
        let (code, shown, said) = client_that_says(form, folder.path(), &url, &arguments).await;
        assert_eq!(code, Some(0), "{said}");
        shown
    };
    let said = |of: &Value| json!([of["members"], of["home"], of["own"], of["waiting"]]);
    // What was said by hand waits until the home has taken it.
    let (home, own) = tokio::time::timeout(PATIENCE, async {
        loop {
            let shown = show("json").await;
            let (home, own) = (of(&shown, here.name()), of(&shown, there.name()));
            if home["waiting"] != 1 {
                return (home, own);
            }
        }
    })
    .await
    .expect("the home takes it");
    assert_eq!(said(&home), json!([2, true, false, 0]));
    assert_eq!(said(&own), json!([2, false, true, null]));
    assert!(home["heard_ms"].is_u64(), "{home}");

    // Used up, and taken back by the other admin; and nobody is there.
    let (code, _, said) = run(&["invite", "create", "Garden"]).await;
    assert_eq!(code, Some(1), "{said}");
    let last = alice.client.create_invite(group, expires, 1).await.unwrap();
    carol.client.revoke_invite(group, last.terms.secret.key()).await.unwrap();
    let erin = there.person("erin").await;
    let refused = erin.client.ask_to_join(&last).await.unwrap_err();
    assert!(refused.to_string().contains("revoked"), "{refused}");
    here.causeway.kill().unwrap();
    // What waits for it, and since when, for programs and for people.
    let (code, _, said) = run(&["send", "Garden", "to a home that is gone"]).await;
    assert_eq!(code, Some(0), "{said}");
    let waits = async {
        loop {
            let home = of(&show("json").await, here.name());
            assert_eq!(home["waiting"], 1);
            if home["waits_since_ms"].is_u64() {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.expect("it is known since when");
    let shown = show("text").await;
    let said_of = |name: &str| {
        let words = shown.lines().find(|words| words.trim_start().starts_with(name));
        words.unwrap_or_else(|| panic!("{name} is not in\n{shown}")).to_owned()
    };
    let (home, own) = (said_of(here.name()), said_of(there.name()));
    assert!(home.contains("2 members; the group's home; 1 message waits for it since "), "{home}");
    assert!(home.contains("; heard of "), "{home}");
    assert!(own.ends_with("2 members; yours"), "{own}");
    let other = tempfile::tempdir().unwrap();
    let run = async |arguments: &[&str]| client(other.path(), &url, arguments).await;
    run(&["register", "finn", "--token", token.expose()]).await;
    let (code, _, said) = run(&["invite", "accept", &link_text]).await;
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("does not answer") && said.contains("last heard of"), "{said}");
}

/// Puts a server back to its copy, and starts it as after a restore, until `meanwhile` is done.
pub(crate) async fn put_back(side: &mut Side, meanwhile: impl Future<Output = ()>) {
    side.causeway.kill().unwrap();
    let arguments = ["backup", "restore", "--move-aside", "copy", "--output", "json"];
    done(&causeway_run(side.causeway.dir(), &arguments));
    let mut run = after_restore(&side.causeway).await;
    meanwhile.await;
    drop(run.stdin.take());
    run.wait().unwrap();
    side.causeway.start().await.unwrap();
}

#[tokio::test]
async fn a_group_goes_on_where_each_of_its_servers_was_put_back_from_a_copy() {
    let mut sides = two().await;
    let (alice, carol) = (sides[0].person("alice").await, sides[1].person("carol").await);
    let dan = sides[1].person("dan").await;
    let there = sides[1].name().to_owned();
    let group = alice.create_group_as("Garden", Scheme::SenderKeys).await;
    alice.add(group, &format!("carol:{there}")).await;
    alice.say(group, &["hello".to_owned()]).await;
    carol.wait("a welcome", |read| read.len() == 1).await;
    for side in &sides {
        done(&causeway_run(side.causeway.dir(), &["backup", "create", "copy", "--output", "json"]));
    }
    // What both servers are to lose: an op, and words under it that were taken and read.
    alice.add(group, &format!("dan:{there}")).await;
    alice.say(group, &["after the copy".to_owned()]).await;
    carol.wait("what is said after the copy", |read| read.len() == 2).await;
    dan.wait("a welcome", |read| read.len() == 1).await;

    let [here, replica] = &mut sides;
    put_back(replica, async {
        alice.say(group, &["to a replica".to_owned()]).await;
        let has = |read: &[Read]| read.iter().any(|read| read.body == "to a replica");
        carol.wait("words after the replica's restore", has).await;
        dan.wait("words after the replica's restore", has).await;
        dan.say(group, &["from a replica".to_owned()]).await;
        let has = |read: &[Read]| read.iter().any(|read| read.body == "from a replica");
        alice.wait("words of who was let in after the copy", has).await;
    })
    .await;
    put_back(here, async {
        carol.say(group, &["to a home".to_owned()]).await;
        let has = |read: &[Read]| read.iter().any(|read| read.body == "to a home");
        alice.wait("words after the home's restore", has).await;
        let gone = format!("dan:{there}").parse().unwrap();
        alice.client.remove(group, &gone).await.unwrap();
        alice.say(group, &["from a home".to_owned()]).await;
        let has = |read: &[Read]| read.iter().any(|read| read.body == "from a home");
        carol.wait("words after the home's restore", has).await;
    })
    .await;
    // Each once, whatever came again.
    let bodies: Vec<_> = carol.read().into_iter().map(|read| read.body).collect();
    let mut once = bodies.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), bodies.len(), "{bodies:?}");
    assert!(dan.read().iter().all(|read| read.body != "from a home"));
}
