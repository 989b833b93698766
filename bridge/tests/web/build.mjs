// Element as a site of files: matrix-react-sdk, which is all of Element but its shell, bundled
// with the shell of element.cjs.
//
//   node build.mjs TO    (beside node_modules: shots.mjs copies it there)
import fs from "node:fs";
import path from "node:path";
import esbuild from "esbuild";
import postcss from "postcss";
import easings from "postcss-easings";
import hexrgba from "postcss-hexrgba";
import imports from "postcss-import";
import mixins from "postcss-mixins";
import nested from "postcss-nested";
import scss from "postcss-scss";
import simpleVars from "postcss-simple-vars";

const here = import.meta.dirname;
const to = path.resolve(process.argv[2]);
const sdk = path.join(here, "node_modules/matrix-react-sdk");
const files = { ".woff2": "file", ".woff": "file", ".ttf": "file", ".ogg": "file", ".mp3": "file" };
const images = { ".png": "dataurl", ".gif": "dataurl" };

// What Element's webpack configuration does, as far as it is needed here.
const asWebpack = {
  name: "as webpack",
  setup(build) {
    const lib = path.join(sdk, "lib/");
    const ours = (name) => ({ path: name, namespace: "ours" });
    build.onResolve({ filter: /^\$webapp\/i18n\/languages\.json$/ }, () => ours("languages"));
    // Voice recording and exports are no part of this.
    build.onResolve({ filter: /^opus-recorder|^!!raw-loader|RecorderWorklet$/ }, () => ours("none"));
    build.onLoad({ filter: /.*/, namespace: "ours" }, ({ path: name }) => ({
      contents: `export default ${name === "languages" ? '"i18n/languages.json"' : '""'}`,
    }));
    // Some of what is compiled still names its sources.
    build.onResolve({ filter: /^\..*\.tsx?$/ }, ({ path: name, resolveDir }) =>
      resolveDir.startsWith(lib.slice(0, -1))
        ? { path: path.join(resolveDir, name.replace(/tsx?$/, "js")) }
        : undefined,
    );
    build.onResolve({ filter: /^\..*\/src\// }, ({ path: name, resolveDir }) => {
      const source = path.join(resolveDir, name);
      if (!source.startsWith(path.join(sdk, "src/"))) return undefined;
      const compiled = path.join(lib, path.relative(path.join(sdk, "src"), source));
      return { path: compiled.replace(/(\.tsx?)?$/, ".js") };
    });
    build.onLoad({ filter: /matrix-react-sdk\/lib\/.*Factory\.js$/ }, ({ path: file }) => ({
      contents: fs
        .readFileSync(file, "utf8")
        .replaceAll("import.meta.url", "siteUrl")
        .replace(/worker\.ts"/, 'worker.js"'),
    }));
    // Both the address of an image and a component that shows it.
    build.onLoad({ filter: /\.svg$/ }, ({ path: file }) => ({
      resolveDir: sdk,
      contents: `import React from "react";
        const url = "data:image/svg+xml;base64,${fs.readFileSync(file).toString("base64")}";
        export const Icon = (props) => React.createElement("img", { src: url, alt: "", ...props });
        export { Icon as ReactComponent, url as default };`,
    }));
  },
};

fs.rmSync(to, { recursive: true, force: true });
fs.mkdirSync(path.join(to, "i18n"), { recursive: true });

const workers = ["indexeddb", "blurhash", "playback"].map((name) => `${name}.worker`);
await esbuild.build({
  entryPoints: {
    app: path.join(here, "element.cjs"),
    ...Object.fromEntries(workers.map((name) => [name, path.join(sdk, `lib/workers/${name}.js`)])),
  },
  bundle: true,
  outdir: to,
  format: "iife",
  banner: { js: "var siteUrl = self.document?.currentScript.src;" },
  define: { "process.env.NODE_ENV": '"production"', global: "globalThis", "import.meta.url": "siteUrl" },
  inject: [path.join(here, "globals.mjs")],
  loader: { ...files, ...images, ".wasm": "file" },
  plugins: [asWebpack],
  logLevel: "error",
});

const theme = path.join(sdk, "res/themes/light/css/light.pcss");
const plugins = [imports({ path: [path.join(here, "node_modules")] }), mixins(), simpleVars(), nested()];
const { css } = await postcss([...plugins, easings(), hexrgba()]).process(
  fs.readFileSync(theme),
  { from: theme, parser: scss },
);
await esbuild.build({
  // In its place, so that what it names is found.
  stdin: { contents: css, loader: "css", resolveDir: path.dirname(theme), sourcefile: "theme.css" },
  bundle: true,
  outfile: path.join(to, "theme.css"),
  external: ["http://*", "https://*"],
  loader: { ...files, ...images, ".svg": "dataurl" },
  logLevel: "error",
});

fs.copyFileSync(path.join(sdk, "src/i18n/strings/en_EN.json"), path.join(to, "i18n/en_EN.json"));
fs.writeFileSync(path.join(to, "i18n/languages.json"), JSON.stringify({ en: "en_EN.json" }));
fs.cpSync(path.join(sdk, "res/img"), path.join(to, "res/img"), { recursive: true });
fs.writeFileSync(
  path.join(to, "index.html"),
  `<!doctype html><html lang="en"><meta charset="utf-8"><title>Element</title>
<link rel="stylesheet" href="theme.css" data-mx-theme="light">
<style>html, body, #matrixchat { height: 100%; margin: 0 }</style>
<div id="matrixchat"></div><script src="app.js"></script></html>\n`,
);
