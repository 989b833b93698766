// What is played, and what has to be on the page and in the group.
const TIMELINE = ".mx_RoomView_MessageList";
const GROUP = "Ferry crew";

export async function story(stack, sign_in, shot) {
  const [nora, otto, pia] = [
    await stack.native_person("nora"),
    await stack.native_person("otto"),
    await stack.native_person("pia"),
  ];
  await nora.run("group", "create", GROUP);
  const { link } = JSON.parse(await nora.run("invite", "create", GROUP, "--uses", "2"));
  await otto.run("invite", "accept", link);
  await nora.run("group", "bridge", GROUP, "--invite", stack.user, "--yes");
  const carol = await sign_in("carol", stack.password);

  // She comes in, and is told where she is.
  await carol.accepts(GROUP);
  const introduction = "read there by nora and otto. !causeway members names all of them.";
  await carol.sees(`${TIMELINE} .mx_MNoticeBody`, introduction);
  await carol.sees(".mx_NewRoomIntro", "read by nora and otto:");
  await nora.says(GROUP, "Good morning! The *first* ferry leaves at **seven**.", "--markdown");
  await otto.says(GROUP, "I am at the pier already.");
  await carol.sees(TIMELINE, "I am at the pier already.");
  await carol.says("Here I am, with two lamps 🏮🏮");
  await nora.reads("with two lamps");
  await carol.shot(shot("room"));

  await formatting(stack, nora, otto, carol, shot);
  await answers(nora, otto, carol, shot);
  await notices(stack, { nora, pia, carol, link }, shot);
  await comes_and_goes(stack, nora, carol);
  await members(carol, shot);
  await bot(carol);
  await encrypted(stack, nora, carol, shot);
}

async function formatting(stack, nora, otto, carol, shot) {
  const text = [
    "Bring:\n\n- rope, **20 m**\n- the *long* oar\n",
    "> The tide waits for nobody.\n",
    "```\nknot(bowline)\n```\n",
    "See <https://example.org/tides>, or `tide --now`.",
  ];
  await nora.says(GROUP, text.join("\n"), "--markdown");
  await otto.says(GROUP, "שלום, המעבורת יוצאת בשבע");
  await otto.says(GROUP, "👍");
  await otto.says(GROUP, "@carol can you take the lamps?");
  await nora.says(GROUP, `The wind turns ${"and turns ".repeat(60)}to the west.`);
  await carol.sees(TIMELINE, "turns to the west.");
  const body = ".mx_EventTile_body";
  await carol.sees(`${body} ul li strong`, "20 m");
  await carol.sees(`${body} ul li em`, "long");
  await carol.sees(`${body} blockquote`, "The tide waits for nobody.");
  await carol.sees(`${body} pre code`, "knot(bowline)");
  await carol.sees(`${body} a[href="https://example.org/tides"]`, "https://example.org/tides");
  await carol.sees(`${body} .mx_UserPill_me`, "carol");
  await carol.sees(".mx_EventTile_bigEmoji", "👍");
  await carol.shot_of(shot("formatting"), "Bring:", "turns to the west.");

  await carol.names("**Bold**, *italic* and `code`, for", "nor");
  const { html, body: plain } = await nora.reads("Bold");
  const formatted = "<strong>Bold</strong>, <em>italic</em> and <code>code</code>, for";
  if (!html.startsWith(formatted) || !plain.includes("for nora")) throw new Error(`nora reads ${plain}: ${html}`);
}

async function answers(nora, otto, carol, shot) {
  const asked = await nora.reads("can you take the lamps");
  await carol.answers("can you take the lamps", "I take both of them");
  const read = await nora.reads("I take both of them");
  if (read.reply_row !== asked.row) throw new Error(`it answers ${read.reply_row}, not ${asked.row}`);
  const at = await otto.reads("I take both of them");
  await otto.says(GROUP, "Thank you!", "--reply-to", `${at.device}/${at.client_id}`);
  await carol.sees(`${TIMELINE} .mx_ReplyChain`, "can you take the lamps?", "I take both of them");

  await carol.says("We meet at nime");
  const before = await nora.reads("We meet at nime");
  await carol.edits("We meet at nime", "We meet at nine");
  const after = await nora.reads("We meet at nine");
  if (after.reply_row !== before.row) throw new Error(`the edit answers ${after.reply_row}, not ${before.row}`);
  await carol.sees(".mx_EventTile_edited", "(edited)");
  await carol.shot_of(shot("answers"), "Bold, italic", "We meet at nine");
}

async function notices(stack, { nora, pia, carol, link }, shot) {
  const notice = `${TIMELINE} .mx_MNoticeBody`;
  await pia.run("invite", "accept", link);
  await carol.sees(notice, "nora let pia into the group: what is said here from now on reaches them.");
  await pia.says(GROUP, "Hello from the lighthouse");
  await carol.sees(TIMELINE, "Hello from the lighthouse");
  await nora.run("member", "remove", GROUP, pia.account);
  await carol.sees(notice, "nora removed pia from the group");
  await carol.sees(TIMELINE, 'read by nora and otto: !causeway members".');
  await carol.shot_of(shot("notices"), "nora let pia into the group", "Causeway changed the topic");

  await carol.says("This was meant for Harbour");
  await nora.reads("This was meant for Harbour");
  await carol.takes_back("This was meant for Harbour");
  await nora.reads("took back this message");
  await carol.sees(notice, "Removals of messages do not get into the native group yet");
  await carol.reacts("Hello from the lighthouse");
  await nora.reads("reacted with");
  await carol.sees(notice, "Reactions do not get into the native group yet");
  const unseen = await carol.text(TIMELINE);
  if (unseen.includes("could not be displayed")) throw new Error(`Element cannot show it:\n${unseen}`);

  const token = await stack.token();
  const room = await stack.room(GROUP, token);
  const poll = {
    "org.matrix.msc1767.text": "Coffee or tea?",
    "org.matrix.msc3381.poll.start": {
      question: { "org.matrix.msc1767.text": "Coffee or tea?" },
      kind: "org.matrix.msc3381.poll.disclosed",
      max_selections: 1,
      answers: ["Coffee", "Tea"].map((text) => ({ id: text, "org.matrix.msc1767.text": text })),
    },
  };
  await stack.matrix("PUT", `rooms/${room}/send/org.matrix.msc3381.poll.start/poll`, poll, token);
  await nora.reads("started a poll, which is not bridged yet: Coffee or tea? (Coffee / Tea)");
  await carol.sees(notice, "Polls do not get into the native group yet");
  await carol.shot_of(shot("unbridged"), "Message deleted", "Polls do not get into");

  await carol.says("!causeway help");
  await carol.sees(`${notice} code`, "!causeway status");
  await carol.says("!causeway members");
  await carol.sees(notice, "1 to 2 of 2: nora, otto");
  await carol.says("!causeway status");
  await carol.sees(notice, "2 native members, 1 Matrix user. Nothing waits.");
  await carol.shot_of(shot("commands"), "!causeway help", "Nothing waits.");
  await carol.says(`!causeway invite @dave:${stack.server}`);
  await carol.sees(notice, "Only who may invite (power 50) has the bot invite somebody.");
}

/** She leaves, and comes again when she is invited. */
async function comes_and_goes(stack, nora, carol) {
  await carol.leaves(GROUP);
  await nora.hears("that carol is gone", (line) => line.gone?.includes(stack.user));
  await nora.run("group", "bridge", GROUP, "--invite", stack.user, "--yes");
  await carol.accepts(GROUP);
  await nora.says(GROUP, "Welcome back!");
  await carol.sees(TIMELINE, "Welcome back!");
  await carol.says("Good to be here");
  await nora.reads("Good to be here");
}

async function members(carol, shot) {
  await carol.page.locator(".mx_RoomHeader .mx_FacePile").click();
  await carol.sees(".mx_MemberList", "carol", "Causeway", "nora (native)", "otto (native)");
  await carol.shot(shot("members"), ".mx_RightPanel", 310);
  await carol.page.locator('.mx_RightPanel [data-testid="base-card-close-button"]').click();
}

async function bot(carol) {
  const notice = `${TIMELINE} .mx_MNoticeBody`;
  await carol.names("/query", "causewaybot");
  await carol.sees(".mx_RoomHeader", "Causeway");
  await carol.says("status");
  await carol.sees(`${notice} code`, "!causeway help");
  await carol.sees(notice, "You are in 2 bridged rooms:");
}

/** What is not bridged while the room is encrypted says so. */
async function encrypted(stack, nora, carol, shot) {
  await carol.opens(GROUP);
  await stack.encrypts(await stack.room(GROUP, await stack.token()));
  await nora.reads("The room is encrypted now");
  await carol.sees(TIMELINE, "Encryption enabled");
  await carol.says("Can you read this?");
  await carol.sees(`${TIMELINE} .mx_ReactionsRowButton`, "not bridged");
  await carol.shot_of(shot("encrypted"), "Good to be here", "Can you read this?");
  const shield = await (await carol.tile("Can you read this?")).$(".mx_EventTile_e2eIcon_warning");
  if (shield) throw new Error("Element warns of her own encrypted message");
}
