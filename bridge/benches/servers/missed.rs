//! A server that was away while much was said: how quickly it takes that in, and in how much memory.

use std::path::PathBuf;

use tokio::time::Instant;

use crate::{
    People, Size, say_many,
    stage::{OURS, Stage},
};

/// This build and another, one after the other: each misses some, and then more.
pub(crate) async fn in_turns(stage: &mut Stage, size: &Size, other: Option<PathBuf>) {
    let mut builds = vec![("this build", PathBuf::from(OURS))];
    builds.extend(other.map(|other| ("the other", other)));
    for (at, (what, build)) in builds.iter().enumerate() {
        stage.run(build, "info").await;
        let People { alice, carol, two, .. } = People::meet(stage, &format!("missed{at}")).await;
        // Reading them is not what is measured.
        carol.reading.abort();
        for count in size.missed {
            catch_up(stage, what, (two, &alice), count).await;
        }
    }
}

/// The second server's Causeway is away while so many are said.
async fn catch_up(
    stage: &mut Stage,
    what: &str,
    (group, who): (causeway_protocol::ids::GroupId, &crate::people::Person),
    count: usize,
) {
    let [home, replica, ..] = &mut *stage.sides else { return };
    let before = home.rss();
    replica.causeway.kill().expect("ends");
    say_many(group, who, count).await;
    let waiting = home.rss();
    replica.causeway.start().await.expect("starts");
    let (began, fresh) = (Instant::now(), replica.rss());
    home.all_taken(group).await;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    println!(
        "{what}, {count} messages missed: {rate:.0}/s; memory of the home {before} before, {waiting} with them \
         waiting, {} after; of the replica {fresh} at its start, {} after",
        home.rss(),
        replica.rss()
    );
}
