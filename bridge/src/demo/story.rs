//! The story: two native people make a group, the bridge is let in, a Matrix user comes, they talk,
//! one native leaves against his will, the others talk on.

use causeway_protocol::{
    content::{BridgeRequest, Content},
    ids::GroupId,
    roster::{Role, Scheme},
};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    DemoError,
    matrix_person::MatrixPerson,
    native_person::{NativePerson, envelopes},
    outcome::{OnServer, Outcome, Way},
    place::{Other, Place},
    progress::Progress,
    quay::{self, Scene},
    transcript::until,
};

/// What the group is called.
pub(super) const GROUP: &str = "Harbour";
/// How many may still come in by the link that is shown at the end.
const VISITORS: u32 = 10;
/// What they say, in turn.
const NATIVE_WORDS: [&str; 4] =
    ["the tide turns at seven", "who brings the lamps?", "I have the map", "see you at the pier"];
const MATRIX_WORDS: [&str; 4] =
    ["the boat is ready", "I bring two lamps", "which way is shorter?", "on my way"];

/// The people and what they are in.
pub(super) struct Cast {
    /// Made the group.
    pub(super) ann: NativePerson,
    /// Came by invite, and is removed.
    pub(super) ben: NativePerson,
    /// On Matrix.
    pub(super) carol: MatrixPerson,
    /// The group.
    pub(super) group: GroupId,
    /// By which others may come in.
    pub(super) link: Zeroizing<String>,
    /// What was played after it, where the group itself was not pairwise.
    pub(super) quay: Option<Scene>,
}

/// Plays it with `messages` in each direction.
pub(super) async fn play(
    place: &Place,
    carol: MatrixPerson,
    scheme: Scheme,
    messages: u32,
    progress: &Progress,
) -> Result<(Cast, Outcome), DemoError> {
    let began = Instant::now();
    let mut cast = set_up(place, carol, scheme, progress).await?;
    // At least one after the removal, or it would not be seen what it means.
    let later = (messages / 4).max(1);
    let mut talk = Talk::default();

    progress.say("They talk, natively and on Matrix");
    talk.go_on(&cast, messages - later, true).await?;
    talk.settle(&cast).await?;
    let readable = talk.matrix.len() + talk.by_ann.len();
    cast.ben
        .seen()
        .hear_all(&[talk.matrix.clone(), talk.by_ann.clone()].concat(), "what Ben may read")
        .await?;
    cast.ann.seen().hear_all(&talk.by_ben, "from Ben to Ann").await?;

    let servers = talk.between(place, &cast);

    progress.say("Ann removes Ben");
    let seen_before = cast.ann.rows().len();
    let ben = cast.ben.client().me().account.clone();
    cast.ann.client().remove(cast.group, &ben).await?;
    progress.say("They talk on without him");
    let later_batches = talk.go_on(&cast, later, false).await?;
    talk.settle(&cast).await?;

    progress.say("Ben's client is handed everything that came since, and tries to read it");
    // What came to Ann, ops included, and what Ann posted: there is nobody else but the bridge, so
    // this is every later ciphertext and every later distribution.
    let rows = cast.ann.rows();
    let handed = rows.iter().skip(seen_before).map(|row| row.envelope.clone());
    let posted = later_batches.iter().flat_map(envelopes);
    let handed: Vec<_> = handed.chain(posted).collect();
    let messages_handed = handed.iter().filter(|one| one.kind.is_read()).count();
    if messages_handed == 0 || readable == 0 && messages > 1 {
        return Err(DemoError::Meaningless);
    }
    let removed_member_could_read = cast.ben.be_handed(handed).await?;

    if scheme != Scheme::Pairwise {
        cast.quay = Some(quay::play(place, progress).await?);
    }

    let natives = talk.natives();
    let (heard_on_matrix, doubled_on_matrix) = cast.carol.seen().tally(&natives);
    let (heard_natively, doubled_natively) = cast.ann.seen().tally(&talk.matrix);
    let doubled_pairwise = cast.quay.as_ref().map_or(0, |scene| scene.doubled);
    let outcome = Outcome {
        native_to_matrix: Way { sent: natives.len() as u64, received: heard_on_matrix },
        matrix_to_native: Way { sent: talk.matrix.len() as u64, received: heard_natively },
        removed_member_could_read,
        duplicates: doubled_on_matrix + doubled_natively + doubled_pairwise,
        servers,
        calls: None,
        pieces: cast.quay.as_ref().map(|scene| scene.pieces),
        handed: messages_handed as u64,
        seconds: (began.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0,
    };
    Ok((cast, outcome))
}

/// Everything up to the first word.
async fn set_up(
    place: &Place,
    carol: MatrixPerson,
    scheme: Scheme,
    progress: &Progress,
) -> Result<Cast, DemoError> {
    let url = place.causeway.native_url();
    let token = place.causeway.registration_token()?;
    progress.say(match place.other {
        None => "Ann and Ben register on the native server",
        Some(_) => "Ann and Ben register, each on a native server of their own",
    });
    let ann = NativePerson::register("ann", &place.dir, url, &token).await?;
    let description = "Two native people and one on Matrix";
    let group = ann.create_group(GROUP, description, scheme).await?;
    let ben = if let Some(Other { causeway, .. }) = &place.other {
        let token = causeway.registration_token()?;
        let ben = NativePerson::register("ben", &place.dir, causeway.native_url(), &token).await?;
        progress.say("Ann makes an end-to-end encrypted group, and adds Ben, who is elsewhere");
        ann.client().add(group, &ben.client().me().account, Role::Member).await?;
        let is_offered = async || matches!(ben.client().offer(group).await, Ok(Some(_)));
        until("the group that Ben is added to", is_offered).await?;
        ben.client().take_offer(group).await?;
        ben
    } else {
        let ben = NativePerson::register("ben", &place.dir, url, &token).await?;
        progress.say("Ann makes an end-to-end encrypted group, and Ben joins it by her invite");
        let invite = ann.invite(group, 1).await?;
        ben.come_in(group, &invite).await?;
        ben
    };

    progress.say(&format!("Ann lets the bridge in, and asks it to invite {}", carol.user_id()));
    let bridge = ann.client().http().server().await.map_err(DemoError::from)?.bridge;
    let bridge = bridge.ok_or(DemoError::NoBridge)?;
    ann.client().add_bridge(group, &bridge).await?;
    let request = BridgeRequest { room: None, invite: Some(vec![carol.user_id().to_string()]) };
    ann.send(group, Content::BridgeRequest(request)).await?;
    until("Carol's invite", async || carol.room().is_some()).await?;
    progress.say("Carol has joined the Matrix room that the bridge made");
    let link = ann.invite(group, VISITORS).await?.to_text();
    Ok(Cast { ann, ben, carol, group, link, quay: None })
}

/// What was said, by whom; every text is another.
#[derive(Default)]
struct Talk {
    by_ann: Vec<String>,
    by_ben: Vec<String>,
    matrix: Vec<String>,
}

impl Talk {
    /// `count` more in each direction, without waiting for answers; what Ann posted.
    async fn go_on(
        &mut self,
        cast: &Cast,
        count: u32,
        with_ben: bool,
    ) -> Result<Vec<causeway_groups::machine::Batch>, DemoError> {
        let mut posted = Vec::new();
        for turn in 0..count {
            let place = self.matrix.len();
            let text = format!("{} ({})", word(&NATIVE_WORDS, place), place + 1);
            if with_ben && turn % 2 == 1 {
                cast.ben.say(cast.group, &text).await?;
                self.by_ben.push(text);
            } else {
                posted.push(cast.ann.say(cast.group, &text).await?);
                self.by_ann.push(text);
            }
            let text = format!("{} ({})", word(&MATRIX_WORDS, place), place + 1);
            cast.carol.say(&text).await?;
            self.matrix.push(text);
        }
        Ok(posted)
    }

    /// Waits until both sides have heard everything.
    async fn settle(&self, cast: &Cast) -> Result<(), DemoError> {
        cast.carol.seen().hear_all(&self.natives(), "from native to Matrix").await?;
        cast.ann.seen().hear_all(&self.matrix, "from Matrix to native").await?;
        Ok(())
    }

    /// How much of what was said natively on each of two servers was read natively on the other.
    fn between(&self, place: &Place, cast: &Cast) -> Vec<OnServer> {
        let Some(other) = &place.other else { return Vec::new() };
        let rows = [
            (&place.server_name, &self.by_ann, cast.ben.seen()),
            (&other.server_name, &self.by_ben, cast.ann.seen()),
        ];
        let rows = rows.into_iter().map(|(server, said, seen)| {
            let (received, duplicates) = seen.tally(said);
            let way = Way { sent: said.len() as u64, received };
            OnServer { server: server.clone(), way, duplicates }
        });
        rows.collect()
    }

    fn natives(&self) -> Vec<String> {
        [self.by_ann.clone(), self.by_ben.clone()].concat()
    }
}

fn word(words: &[&'static str; 4], place: usize) -> &'static str {
    words.iter().cycle().nth(place % words.len()).copied().unwrap_or_default()
}
