// Element Call in Chromium, in one call of one room, as one Matrix user.
//
//   node run.mjs < LINES    (beside node_modules and www: main.rs puts it there)
//
// The first line that it reads says whereto: {"homeserver", "user", "device", "token", "room", "intent",
// "wav", "chromium"}; the line "hang up" has it hang up, and the end of the lines ends it. It says lines of
// JSON: {"browser": its process}, {"did": what Element Call told the client around it}, and four times a
// second {"heard": [the frequency that stands out, one for each of the others who is heard]}.
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import readline from "node:readline";
import puppeteer from "puppeteer-core";

const say = (line) => console.log(JSON.stringify(line));
const TYPES = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};
const www = path.join(import.meta.dirname, "www");
const server = http.createServer((request, response) => {
  const file = path.join(www, path.normalize(new URL(request.url, "http://localhost").pathname));
  if (!fs.existsSync(file) || fs.statSync(file).isDirectory()) response.writeHead(404).end();
  else {
    response.setHeader("content-type", TYPES[path.extname(file)] ?? "application/octet-stream");
    fs.createReadStream(file).pipe(response);
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { wav, chromium, ...asked } = JSON.parse((await lines.next()).value);
const browser = await puppeteer.launch({
  executablePath: chromium,
  headless: true,
  args: [
    "--no-sandbox",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    `--use-file-for-fake-audio-capture=${wav}`,
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--allow-loopback-in-peer-connection",
    "--disable-gpu",
    "--mute-audio",
    // This machine alone.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
  ],
});
say({ browser: browser.process().pid });
const page = await browser.newPage();
page.on("console", (said) => process.stderr.write(`[${said.type()}] ${said.text()}\n`));
page.on("pageerror", (error) => process.stderr.write(`${error.stack}\n`));
// In Element Call's frame as well: it is asked for each connection what comes there.
await page.evaluateOnNewDocument(() => {
  const Connection = window.RTCPeerConnection;
  window.connections = [];
  window.RTCPeerConnection = class extends Connection {
    constructor(...given) {
      super(...given);
      window.connections.push(this);
    }
  };
});
const { port } = server.address();
const hash = encodeURIComponent(JSON.stringify(asked));
await page.goto(`http://127.0.0.1:${port}/host.html#${hash}`);

/** The frequency that stands out in what comes from each of the others, where one does. */
const heard = () => {
  const frame = page.frames().find((frame) => frame.url().includes("/ec/index.html"));
  return frame?.evaluate(async () => {
    window.listening ??= new Map();
    window.context ??= new AudioContext({ sampleRate: 48_000 });
    await window.context.resume();
    const found = [];
    for (const connection of window.connections)
      for (const { track } of connection.getReceivers()) {
        if (track?.kind !== "audio" || track.readyState !== "live") continue;
        let analyser = window.listening.get(track.id);
        if (!analyser) {
          analyser = window.context.createAnalyser();
          Object.assign(analyser, { fftSize: 8192, smoothingTimeConstant: 0 });
          const source = window.context.createMediaStreamSource(new MediaStream([track]));
          source.connect(analyser);
          window.listening.set(track.id, analyser);
        }
        const levels = new Float32Array(analyser.frequencyBinCount);
        analyser.getFloatFrequencyData(levels);
        const loudest = levels.reduce((best, level, n) => (level > levels[best] ? n : best), 1);
        if (levels[loudest] > -60) found.push(Math.round((loudest * 48_000) / 8192));
      }
    return found;
  });
};

let did = 0;
const looking = setInterval(async () => {
  try {
    const actions = await page.evaluate(() => window.actions ?? []);
    for (; did < actions.length; did += 1) say({ did: actions[did] });
    say({ heard: (await heard()) ?? [] });
  } catch {
    // Between two pages there is nothing to look at.
  }
}, 250);
for (let line = await lines.next(); !line.done; line = await lines.next())
  if (line.value === "hang up") await page.evaluate(() => window.hangUp());
clearInterval(looking);
await browser.close();
server.close();
