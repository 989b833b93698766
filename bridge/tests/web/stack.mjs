// `causeway demo`, which brings homeserver, Causeway and a Matrix user, and native clients beside it.
import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";

const LIMIT_MS = 60_000;

/** What `promise` gives; an error that says what was waited for, where that takes too long. */
export async function inTime(what, promise, limit = LIMIT_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${limit / 1000} s`)), limit);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Lines that a process writes, and a way to wait for one of them. */
class Lines {
  constructor(stream) {
    this.all = [];
    this.waiting = new Set();
    readline.createInterface({ input: stream }).on("line", (line) => {
      this.all.push(line);
      for (const look of this.waiting) look();
    });
  }

  until(what, wanted, limit) {
    const found = new Promise((resolve) => {
      const look = () => {
        const line = this.all.find(wanted);
        if (line === undefined) return;
        this.waiting.delete(look);
        resolve(line);
      };
      this.waiting.add(look);
      look();
    });
    return inTime(what, found, limit);
  }
}

export class Stack {
  /** Plays the demo's story in `dir`, a folder of this run alone, and stays. */
  static async start(binary, dir) {
    const demo = spawn(binary, ["demo", "--messages", "1", "--dir", path.join(dir, "demo")]);
    const ended = new Promise((_, reject) => {
      demo.on("error", reject);
      demo.on("exit", () => reject(new Error("the demo has ended; what it said is above")));
    });
    ended.catch(() => {});
    demo.stderr.pipe(process.stderr);
    const lines = new Lines(demo.stdout);
    // The first time it fetches Synapse.
    await Promise.race([lines.until("the demo's story", (line) => /^It goes on/.test(line), 900_000), ended]);
    const said = lines.all.join("\n");
    const field = (name) => said.match(new RegExp(`^ {4}${name} +(\\S+)$`, "m"))[1];
    const native = said.match(/--server (\S+) register you/)[1];
    return Object.assign(new Stack(), {
      natives: [],
      binary,
      dir,
      demo,
      native,
      homeserver: field("homeserver"),
      user: field("user"),
      password: field("password"),
    });
  }

  get server() {
    return this.user.slice(this.user.indexOf(":") + 1);
  }

  /** A native account with a client that reads along. */
  async native_person(name) {
    const person = new Native(this, name);
    this.natives.push(person);
    const token = path.join(this.dir, "demo/data/registration.token");
    await person.run("--server", this.native, "register", name, "--token-file", token);
    person.read();
    return person;
  }

  /** A request to the homeserver, as `token`'s user. */
  async matrix(method, route, body, token) {
    const response = await fetch(`${this.homeserver}/_matrix/client/v3/${route}`, {
      method,
      headers: token ? { authorization: `Bearer ${token}` } : {},
      body: body && JSON.stringify(body),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(`${method} ${route}: ${JSON.stringify(answer)}`);
    return answer;
  }

  /** A token of the Matrix user's, beside the one that the browser has. */
  async token() {
    const identifier = { type: "m.id.user", user: this.user };
    const login = { type: "m.login.password", identifier, password: this.password };
    return (await this.matrix("POST", "login", login)).access_token;
  }

  /** The room of that name that `token`'s user is in. */
  async room(name, token) {
    const { joined_rooms: rooms } = await this.matrix("GET", "joined_rooms", undefined, token);
    for (const room of rooms) {
      const state = `rooms/${room}/state/m.room.name`;
      // A direct chat has none.
      const { name: found } = await this.matrix("GET", state, undefined, token).catch(() => ({}));
      if (found === name) return room;
    }
    throw new Error(`there is no room “${name}”`);
  }

  /** The room turns encrypted: as the bot, since nobody else has the power there. */
  async encrypts(room) {
    const registration = fs.readFileSync(path.join(this.dir, "demo/registration.yaml"), "utf8");
    const token = registration.match(/^as_token: *['"]?([^'"\s]+)/m)[1];
    const state = `rooms/${room}/state/m.room.encryption?user_id=@causewaybot:${this.server}`;
    await this.matrix("PUT", state, { algorithm: "m.megolm.v1.aes-sha2" }, token);
  }

  async stop() {
    for (const person of this.natives) person.stop();
    const ended = new Promise((resolve) => this.demo.on("exit", resolve));
    if (this.demo.exitCode === null && this.demo.kill("SIGINT")) await inTime("the demo's end", ended);
  }
}

class Native {
  constructor(stack, name) {
    Object.assign(this, { stack, name, account: `${name}:${stack.server}` });
    this.home = path.join(stack.dir, name);
  }

  #spawn(args) {
    const all = ["client", "--home", this.home, "--output", "json", ...args];
    return spawn(this.stack.binary, all, { stdio: ["ignore", "pipe", "pipe"] });
  }

  /** What the command writes; an error with its words where it fails. */
  async run(...args) {
    const child = this.#spawn(args);
    const text = { out: "", err: "" };
    child.stdout.on("data", (data) => (text.out += data));
    child.stderr.on("data", (data) => (text.err += data));
    const code = await inTime(`${this.name}: ${args.join(" ")}`, new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", resolve);
    }));
    if (code !== 0) throw new Error(`${this.name}: ${args.join(" ")}: ${text.err}`);
    return text.out;
  }

  read() {
    this.tail = this.#spawn(["tail"]);
    this.lines = new Lines(this.tail.stdout);
  }

  /** The first line of `tail` for which `wanted` holds. */
  async hears(what, wanted) {
    const found = (line) => wanted(JSON.parse(line));
    return JSON.parse(await this.lines.until(`${this.name} hears ${what}`, found));
  }

  /** The first message with `text` in it. */
  reads(text) {
    return this.hears(`“${text}”`, (line) => line.body?.includes(text));
  }

  /** Says `text`; the line of it. */
  async says(group, text, ...args) {
    await this.run("send", group, text, ...args);
    return this.reads(text);
  }

  stop() {
    this.tail?.kill("SIGINT");
  }
}

/** An empty folder in `.causeway`, for this run. */
export function fresh(folder) {
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder, { recursive: true });
  return folder;
}
