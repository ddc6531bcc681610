// Joins the script, the style and the licences of what it bundles into the page's template: node build.mjs OUTPUT.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const output = process.argv[2];
if (!output) throw new Error("usage: node build.mjs OUTPUT");

const bundle = await build({
  entryPoints: ["src/main.ts"],
  bundle: true,
  minify: true,
  write: false,
  metafile: true,
  format: "iife",
  target: "es2022",
  charset: "ascii",
  legalComments: "none",
  logLevel: "warning",
});
// The text of a script element must not hold what ends or opens one; in JavaScript "<" there stands in strings and patterns alone.
const script = bundle.outputFiles[0].text.replaceAll("</script", "\\u003c/script").replaceAll("<!--", "\\u003c!--");
const style = readFileSync("page.css", "utf8");

function licences(inputs) {
  const packages = new Set();
  for (const input of Object.keys(inputs)) {
    const match = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (match) packages.add(match[1]);
  }
  const byText = new Map();
  for (const name of [...packages].sort()) {
    const folder = `node_modules/${name}`;
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
    const { version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
    const text = file ? readFileSync(`${folder}/${file}`, "utf8").trim() : String(license);
    byText.set(text, [...(byText.get(text) ?? []), `${name} ${version}`]);
  }
  return [...byText].map(([text, names]) => `${names.join(", ")}\n\n${text}`).join("\n\n----\n\n");
}

// Comments may not hold "--".
const legal = licences(bundle.metafile.inputs).replaceAll("--", "- -").replaceAll(">", "&gt;");
const hash = createHash("sha256").update(script, "utf8").digest("base64");
const page = readFileSync("page.html", "utf8")
  .replace("/*STYLE*/", () => style)
  .replace("SCRIPT-HASH", () => `sha256-${hash}`)
  .replace("/*SCRIPT*/", () => script)
  .replace("LICENCES", () => legal);
writeFileSync(output, page);
