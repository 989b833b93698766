// Element in Chromium, and a person who uses it by what is on the page.
import fs from "node:fs";
import http from "node:http";
import path from "node:path";

const TYPES = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".woff2": "font/woff2",
};
const LIMIT_MS = 30_000;

/** Serves the site that build.mjs made, set up for `homeserver`. */
export async function serve(site, homeserver) {
  const config = JSON.stringify({
    brand: "Element",
    default_server_config: { "m.homeserver": { base_url: homeserver } },
    disable_custom_urls: true,
    disable_guests: true,
    features: { feature_release_announcement: false },
  });
  const server = http.createServer((request, response) => {
    const name = new URL(request.url, "http://localhost").pathname;
    const file = path.join(site, name === "/" ? "index.html" : name);
    const type = TYPES[path.extname(file)] ?? "application/octet-stream";
    if (name === "/config.json") response.setHeader("content-type", TYPES[".json"]).end(config);
    else if (!fs.existsSync(file)) response.writeHead(404).end();
    else fs.createReadStream(file).pipe(response.setHeader("content-type", type));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

/** Chromium, which reaches this machine alone. */
export async function launch(puppeteer, executablePath) {
  const args = ["--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"];
  if (process.getuid?.() === 0) args.push("--no-sandbox");
  return puppeteer.launch({ executablePath, headless: true, args });
}

export class Person {
  /** Signs in at `site`. */
  static async sign_in(browser, site, user, password) {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    await page.setViewport({ width: 1040, height: 1300 });
    page.setDefaultTimeout(LIMIT_MS);
    const person = Object.assign(new Person(), { page, faults: [] });
    page.on("pageerror", (error) => person.faults.push(error.stack ?? String(error)));
    await page.goto(`${site}#/login`);
    await page.locator("#mx_LoginForm_username").fill(user);
    await page.locator("#mx_LoginForm_password").fill(password);
    await page.locator(".mx_Login_submit").click();
    await page.waitForSelector(".mx_LeftPanel");
    return person;
  }

  /** Goes on when all of `texts` are on the page, in `where`. */
  async sees(where, ...texts) {
    for (const text of texts) {
      const there = (selector, wanted) =>
        [...document.querySelectorAll(selector)].some((element) =>
          element.innerText.replace(/\s+/g, " ").includes(wanted),
        );
      await this.page.waitForFunction(there, {}, where, text).catch(async () => {
        const shown = await this.text(where);
        throw new Error(`“${text}” is not in ${where}; there is:\n${shown}`);
      });
    }
  }

  /** What is to be read in `where`. */
  text(where) {
    return this.page.$$eval(where, (all) => all.map((element) => element.innerText).join("\n"));
  }

  /** Opens the room of that name. */
  async opens(name) {
    await this.page.locator(`.mx_RoomTile[aria-label^="${name}"]`).click();
  }

  /** Writes into the composer; `\n` breaks the line. */
  async writes(text, within = ".mx_MessageComposer") {
    const composer = `${within} .mx_BasicMessageComposer_input`;
    await this.page.locator(composer).click();
    for (const [n, line] of text.split("\n").entries()) {
      if (n > 0) {
        await this.page.keyboard.down("Shift");
        await this.page.keyboard.press("Enter");
        await this.page.keyboard.up("Shift");
      }
      await this.page.keyboard.type(line);
    }
  }

  /** Says it, and waits until the homeserver has it. */
  async says(text) {
    await this.writes(text);
    await this.page.keyboard.press("Enter");
    await this.has_sent();
  }

  async has_sent() {
    await this.page.waitForFunction(
      () => !document.querySelector(".mx_EventTile_sending, .mx_EventTile_encrypting"),
    );
  }

  /** The tile of the last message with `text`. */
  async tile(text) {
    const found = await this.page.waitForFunction(
      (wanted) =>
        [...document.querySelectorAll(".mx_RoomView_MessageList .mx_EventTile")].findLast((tile) =>
          tile.querySelector(".mx_EventTile_body")?.innerText.includes(wanted),
        ),
      {},
      text,
    );
    return found.asElement();
  }

  /** Presses a button of the bar beside a message. */
  async on_message(text, label) {
    const button = `.mx_MessageActionBar [aria-label="${label}"]`;
    for (let tries = 5; ; tries -= 1) {
      // What comes in meanwhile moves it away under the pointer.
      const tile = await this.tile(text);
      await this.page.mouse.move(5, 5);
      await tile.hover();
      const found = await tile.waitForSelector(button, { timeout: 2_000 }).catch(() => null);
      if (found) return found.click();
      if (tries === 0) throw new Error(`there is no “${label}” beside “${text}”`);
    }
  }

  /** Makes `before` into `after`. */
  async edits(before, after) {
    await this.on_message(before, "Edit");
    const editor = ".mx_EditMessageComposer .mx_BasicMessageComposer_input";
    await this.page.waitForSelector(`${editor}:focus`);
    await this.page.keyboard.down("Control");
    await this.page.keyboard.press("a");
    await this.page.keyboard.up("Control");
    await this.page.keyboard.type(after);
    await this.page.keyboard.press("Enter");
    await this.page.waitForSelector(editor, { hidden: true });
    await this.has_sent();
  }

  /** Takes the message back. */
  async takes_back(text) {
    await this.on_message(text, "Options");
    await this.page.locator('.mx_MessageContextMenu [aria-label="Remove"]').click();
    await this.page.locator(".mx_Dialog_primary").click();
    await this.page.waitForSelector(".mx_Dialog_primary", { hidden: true });
  }

  async answers(text, answer) {
    await this.on_message(text, "Reply");
    await this.page.waitForSelector(".mx_ReplyPreview");
    await this.says(answer);
  }

  /** Puts the first of the emoji that are offered to it. */
  async reacts(text) {
    await this.on_message(text, "React");
    await this.page.locator(".mx_EmojiPicker_item").click();
    await (await this.tile(text)).waitForSelector(".mx_ReactionsRowButton");
  }

  /** Writes `text` and the first letters of a name, and takes the first that is offered for it. */
  async names(text, letters) {
    await this.writes(`${text} @${letters}`);
    await this.page.waitForSelector(".mx_Autocomplete_Completion");
    await this.page.keyboard.press("Tab");
    await this.page.waitForSelector(".mx_MessageComposer .mx_UserPill");
    await this.page.keyboard.press("Enter");
    await this.has_sent();
  }

  /** Follows the invitation to the room of that name. */
  async accepts(name) {
    await this.opens(name);
    await this.page.locator(".mx_RoomPreviewBar .mx_AccessibleButton_kind_primary").click();
    await this.page.waitForSelector(".mx_MessageComposer");
  }

  async leaves(name) {
    await this.opens(name);
    await this.page.locator('.mx_RoomHeader [aria-label="Room info"]').click();
    await this.page.locator(".mx_RoomSummaryCard ::-p-text(Leave room)").click();
    await this.page.locator('.mx_Dialog [data-testid="dialog-primary-button"]').click();
    await this.page.waitForSelector(`.mx_RoomTile[aria-label^="${name}"]`, { hidden: true });
  }

  /** A picture of the timeline, from the line with one text to the one with another. */
  async shot_of(file, first, last) {
    await this.page.mouse.move(5, 5);
    const clip = await this.page.evaluate(
      (first, last) => {
        const shown = [...document.querySelectorAll(".mx_RoomView_MessageList > li")];
        const has = (text) => (line) => line.innerText.replace(/\s+/g, " ").includes(text);
        const top = shown.find(has(first)).getBoundingClientRect().top;
        const bottom = shown.findLast(has(last)).getBoundingClientRect().bottom;
        const { left, width } = document.querySelector(".mx_RoomView_timeline").getBoundingClientRect();
        return { x: left, y: top, width, height: bottom - top + 8 };
      },
      first,
      last,
    );
    if (clip.y < 0) throw new Error(`“${first}” is above what the window shows`);
    await this.page.screenshot({ path: file, clip, captureBeyondViewport: false });
  }

  /** A picture of the window, or of the upper part of `selector`. */
  async shot(file, selector, height) {
    await this.page.mouse.move(5, 5);
    const box = await (await this.page.waitForSelector(selector ?? "body")).boundingBox();
    const clip = { ...box, height: height ?? box.height };
    // Else the window has another size for a moment, for which Element lays everything out anew.
    await this.page.screenshot({ path: file, clip, captureBeyondViewport: false });
  }
}
