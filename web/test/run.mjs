// Bundles every test of this folder with esbuild and hands them to node's own runner.
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const out = await mkdtemp(join(tmpdir(), "dashboard-"));
try {
  const entryPoints = (await readdir(HERE)).filter((n) => n.endsWith(".test.ts")).map((n) => join(HERE, n));
  await build({ entryPoints, outdir: out, bundle: true, platform: "node", format: "esm", outExtension: { ".js": ".mjs" } });
  const tests = (await readdir(out)).map((name) => join(out, name));
  const { status } = spawnSync(process.execPath, ["--test", "--test-reporter=dot", ...tests], { stdio: "inherit" });
  process.exitCode = status ?? 1;
} finally {
  await rm(out, { recursive: true, force: true });
}
