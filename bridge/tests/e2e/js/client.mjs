// A Matrix user for the end-to-end tests: matrix-js-sdk, driven over JSON lines.
//
//   node client.mjs HOMESERVER_URL USER    (the password is the first line of stdin)
//
// Commands on stdin: {"cmd":"send","room":"!r","body":"…","msgtype"?,"formatted_body"?}
//                    {"cmd":"quit"}
// Lines on stdout:   {"ready":"@u:hs"} | {"joined":"!r"} | {"sent":"$e","body"} |
//                    {"message":"$e","room","sender","msgtype","body","formatted_body"?} |
//                    {"member":"@g:hs","room","membership"} | {"error":"…"}
// Invitations are accepted. Every message event is printed once, oldest first per room.
import readline from "node:readline";
import * as sdk from "matrix-js-sdk";
import { logger } from "matrix-js-sdk/lib/logger.js";

// stdout carries nothing but our lines.
logger.setLevel?.("silent");
for (const method of ["log", "info", "debug", "warn", "trace"]) console[method] = () => {};

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const [baseUrl, user] = process.argv.slice(2);
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const password = (await lines.next()).value;

const { user_id: userId, access_token: accessToken, device_id: deviceId } = await sdk
  .createClient({ baseUrl })
  .loginRequest({ type: "m.login.password", identifier: { type: "m.id.user", user }, password });
const client = sdk.createClient({ baseUrl, userId, accessToken, deviceId });

const seen = new Set();
client.on(sdk.RoomEvent.Timeline, (event, room, toStartOfTimeline) => {
  if (toStartOfTimeline || event.getType() !== "m.room.message" || event.status !== null) return;
  if (seen.has(event.getId())) return;
  seen.add(event.getId());
  const { msgtype, body, formatted_body } = event.getContent();
  say({ message: event.getId(), room: room.roomId, sender: event.getSender(), msgtype, body, formatted_body });
});
client.on(sdk.RoomMemberEvent.Membership, async (_event, member) => {
  say({ member: member.userId, room: member.roomId, membership: member.membership });
  if (member.userId !== userId || member.membership !== "invite") return;
  try {
    await client.joinRoom(member.roomId);
    say({ joined: member.roomId });
  } catch (error) {
    say({ error: `join: ${error.message}` });
  }
});

const synced = new Promise((resolve) => {
  client.on(sdk.ClientEvent.Sync, (state) => state === "PREPARED" && resolve());
});
await client.startClient({ initialSyncLimit: 50 });
await synced;
say({ ready: userId });

for await (const line of lines) {
  const { cmd, room, body, msgtype = "m.text", formatted_body } = JSON.parse(line);
  if (cmd === "quit") break;
  if (cmd !== "send") {
    say({ error: `no command ${cmd}` });
    continue;
  }
  const content = { msgtype, body };
  if (formatted_body) Object.assign(content, { format: "org.matrix.custom.html", formatted_body });
  try {
    const { event_id } = await client.sendMessage(room, content);
    say({ sent: event_id, body });
  } catch (error) {
    say({ error: `send: ${error.message}` });
  }
}
client.stopClient();
process.exit(0);
