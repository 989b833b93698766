use crate::harness::Server;

#[tokio::test]
async fn what_one_says_the_others_read_in_order_and_once() {
    let server = Server::start().await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let accepted = alice.say(&server, &group, &["one", "two", "three"]).await;
    assert_eq!(accepted.accepted.iter().map(|a| a.recipients).collect::<Vec<_>>(), [2, 2, 2]);
    for reader in [&bob, &carol] {
        assert_eq!(reader.stream(&server).await.texts(3).await, ["one", "two", "three"]);
    }
    let mut own = alice.stream(&server).await;
    bob.say(&server, &group, &["four"]).await;
    assert_eq!(own.texts(1).await, ["four"], "nobody reads what it said itself");
    server.stop().await;
}
