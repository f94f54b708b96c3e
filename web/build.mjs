// Builds src/ into the Python package: index.html and assets/ whose names carry a content hash, each
// with a .gz twin so that the server compresses nothing while it serves.
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const OUT = join(HERE, "../src/durably/server/dashboard");
const LIMIT_KB = 150;

await rm(OUT, { recursive: true, force: true });
await mkdir(join(OUT, "assets"), { recursive: true });
const { metafile } = await build({
  absWorkingDir: HERE,
  entryPoints: { app: "src/main.tsx", style: "src/styles/main.css" },
  outdir: join(OUT, "assets"),
  entryNames: "[name]-[hash]",
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022", "chrome123", "firefox120", "safari17.5"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  metafile: true,
});

// What is bundled asks for its notice to go along.
const packages = new Set(Object.keys(metafile.inputs).flatMap((path) => path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ?? []));
const notices = await Promise.all(
  [...packages].sort().map(async (name) => `${name}\n\n${await readFile(join(HERE, "node_modules", name, "LICENSE"), "utf8")}`),
);
await writeFile(join(OUT, "NOTICES.txt"), notices.join("\n\n"));

const names = Object.keys(metafile.outputs).map((path) => path.split("/").at(-1));
const script = names.find((name) => name.startsWith("app-") && name.endsWith(".js"));
const style = names.find((name) => name.startsWith("style-") && name.endsWith(".css"));
const page = await readFile(join(HERE, "index.html"), "utf8");
await writeFile(
  join(OUT, "index.html"),
  page.replace("{script}", `/assets/${script}`).replace("{style}", `/assets/${style}`),
);

let total = 0;
for (const path of ["index.html", ...(await readdir(join(OUT, "assets"))).map((n) => `assets/${n}`)]) {
  const zipped = gzipSync(await readFile(join(OUT, path)), { level: 9 });
  total += zipped.length;
  await writeFile(join(OUT, `${path}.gz`), zipped);
}
console.log(`dashboard: ${(total / 1024).toFixed(1)} KB gzipped`);
if (total > LIMIT_KB * 1024) {
  console.error(`the dashboard must not exceed ${LIMIT_KB} KB gzipped`);
  process.exit(1);
}
