// Bundles the page: node build.mjs FOLDER. Writes graphiql.js, graphiql.css and the licences of everything in them.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const folder = process.argv[2];
const { metafile } = await build({
  entryPoints: ["page.jsx"],
  outfile: join(folder, "graphiql.js"),
  bundle: true,
  minify: true,
  metafile: true,
  jsx: "automatic",
  target: "es2022",
  define: { "process.env.NODE_ENV": '"production"' },
  legalComments: "none", // all of them are in one file
  logLevel: "error",
});

const packages = new Set();
for (const input of Object.keys(metafile.inputs)) {
  const found = /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
  if (found) packages.add(found[0]);
}
const texts = [...packages].sort().map((place) => {
  const { name, version, license } = JSON.parse(readFileSync(join(place, "package.json"), "utf8"));
  const file = readdirSync(place).find((one) => /^licen[cs]e/i.test(one));
  return `${name} ${version}: ${license}\n\n${file ? readFileSync(join(place, file), "utf8").trim() : ""}\n`;
});
writeFileSync(join(folder, "LICENSES.txt"), texts.join(`\n${"-".repeat(80)}\n\n`));
