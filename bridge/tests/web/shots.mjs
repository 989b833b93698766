// A bridged room as somebody with Element sees it: a story is played on the demo's homeserver,
// what has to be on the page is looked for there, and pictures of it are taken.
//
//   cargo build --release && node bridge/tests/web/shots.mjs
//     [--causeway BINARY]   (target/release/causeway)
//     [--to FOLDER]         (docs/img; nothing is put there unless all went well)
//
// It needs Node 20 and Chromium (CHROMIUM names another than that of the path), and fetches
// Element's packages into .causeway/web once. Exit code 1 where something is missing, on the
// machine or on the page; the page as it was then is .causeway/web/failed.png.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { launch, Person, serve } from "./browser.mjs";
import { fresh, Stack } from "./stack.mjs";
import { story } from "./story.mjs";

const here = import.meta.dirname;
const root = path.join(here, "../../..");
const folder = path.join(root, ".causeway/web");
const { values: given } = parseArgs({ options: { causeway: { type: "string" }, to: { type: "string" } } });
const causeway = path.resolve(given.causeway ?? path.join(root, "target/release/causeway"));
const to = path.resolve(given.to ?? path.join(root, "docs/img"));

function missing(what, remedy) {
  console.error(`${what}: ${remedy}`);
  process.exit(1);
}

function chromium() {
  const names = process.env.CHROMIUM ? [process.env.CHROMIUM] : ["chromium", "chromium-browser", "google-chrome"];
  const places = names.flatMap((name) =>
    name.includes("/") ? [name] : process.env.PATH.split(":").map((place) => path.join(place, name)),
  );
  const found = places.find((place) => fs.existsSync(place));
  return found ?? missing("there is no Chromium", "`apt install chromium`, or say in CHROMIUM where it is");
}

/** Element's packages and its site, made once for each lock file and build.mjs. */
function element() {
  const sources = ["package.json", "package-lock.json", "build.mjs", "element.cjs", "globals.mjs"];
  const wanted = sources.map((name) => fs.readFileSync(path.join(here, name), "utf8")).join("\0");
  const marker = path.join(folder, "made");
  if (fs.existsSync(marker) && fs.readFileSync(marker, "utf8") === wanted) return;
  fs.mkdirSync(folder, { recursive: true });
  for (const name of sources) fs.copyFileSync(path.join(here, name), path.join(folder, name));
  console.log("Element's packages are fetched and put together, once; it takes a minute or two");
  const run = (...command) => execFileSync(command[0], command.slice(1), { cwd: folder, stdio: "inherit" });
  run("npm", "ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund", "--loglevel=error");
  run(process.execPath, "build.mjs", "site");
  fs.writeFileSync(marker, wanted);
}

if (Number(process.versions.node.split(".")[0]) < 20) missing(`this is Node ${process.versions.node}`, "20 or newer is needed");
if (!fs.existsSync(causeway)) missing(`there is no ${causeway}`, "`cargo build --release`, or name another with --causeway");
const browserAt = chromium();
element();
const { default: puppeteer } = await import(
  pathToFileURL(createRequire(path.join(folder, "package.json")).resolve("puppeteer-core"))
);

const shots = fresh(path.join(folder, "shots"));
const stack = await Stack.start(causeway, fresh(path.join(folder, "run")));
const site = await serve(path.join(folder, "site"), stack.homeserver);
const browser = await launch(puppeteer, browserAt);
const people = [];
try {
  const at = `http://127.0.0.1:${site.address().port}/`;
  const sign_in = async (user, password) => {
    const person = await Person.sign_in(browser, at, user, password);
    people.push(person);
    return person;
  };
  await story(stack, sign_in, (name) => path.join(shots, `${name}.png`));
  const faults = people.flatMap((person) => person.faults);
  if (faults.length > 0) throw new Error(`Element itself failed:\n${faults.join("\n")}`);
  fs.mkdirSync(to, { recursive: true });
  fs.cpSync(shots, to, { recursive: true });
  console.log(`all was on the page; the pictures are in ${path.relative(process.cwd(), to) || "."}`);
} catch (error) {
  console.error(error);
  const last = people.at(-1);
  if (last) await last.page.screenshot({ path: path.join(folder, "failed.png") });
  process.exitCode = 1;
} finally {
  await browser.close();
  site.close();
  await stack.stop();
}
