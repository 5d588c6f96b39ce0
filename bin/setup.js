/**
 * Installs what Mayfly needs and says so: npm packages when the lock file has changed, and with `--system` the Debian
 * packages of the strongest sandbox when root. Runs on any Node from 18 on, imports `node:` only, and does nothing
 * when all is there.
 */
import { spawnSync } from "node:child_process";
import { accessSync, constants, copyFileSync, existsSync, readFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const lock = join(root, "package-lock.json");
const installedLock = join(root, "node_modules", ".mayfly-lock");

/** Program → Debian package: what the strongest sandbox needs, which is another one for ordinary users. */
const programs =
  process.getuid?.() === 0
    ? [
        { program: "crun", package: "crun" },
        { program: "nft", package: "nftables" },
        { program: "ip", package: "iproute2" },
        { program: "unshare", package: "util-linux" },
        { program: "git", package: "git" },
      ]
    : [
        { program: "bwrap", package: "bubblewrap" },
        { program: "pasta", package: "passt" },
        { program: "git", package: "git" },
      ];

installPackages();
if (process.argv.includes("--system")) installPrograms();

function installPackages() {
  if (existsSync(installedLock) && readFileSync(lock, "utf8") === readFileSync(installedLock, "utf8")) return;
  console.log("Installing npm packages (once, about a minute)…");
  // Install scripts are not needed: every native part comes as a package of its own.
  run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
  copyFileSync(lock, installedLock);
}

function installPrograms() {
  if (process.platform !== "linux") {
    console.log(`On ${process.platform} there is no sandbox: Functions and builds are not isolated. Use it for development only.`);
    return;
  }
  const missing = programs.filter(({ program }) => !hasProgram(program));
  if (missing.length === 0) return;
  const names = [...new Set(missing.map((entry) => entry.package))];
  if (process.getuid?.() !== 0 || !hasProgram("apt-get")) {
    console.log(
      `Missing: ${names.join(", ")}. Without ${names.length > 1 ? "them" : "it"} Functions and builds are isolated less, have no network, or cannot come from Git.`,
    );
    return;
  }
  console.log(`Installing Debian packages: ${names.join(", ")}…`);
  const install = ["-qq", "-y", "--no-install-recommends", "install", ...names];
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  if (spawnSync("apt-get", install, { env, stdio: "ignore" }).status === 0) return;
  run("apt-get", ["-qq", "update"], env);
  run("apt-get", install, env);
}

/**
 * @param {string} command
 * @param {string[]} parameters
 * @param {NodeJS.ProcessEnv} [env]
 */
function run(command, parameters, env = process.env) {
  const { status, error, stderr } = spawnSync(command, parameters, {
    cwd: root,
    env,
    stdio: ["ignore", "ignore", "pipe"],
    encoding: "utf8",
  });
  if (status === 0) return;
  console.error((stderr ?? "").split("\n").slice(0, 20).join("\n"));
  console.error(`Cannot set Mayfly up: \`${command} ${parameters.join(" ")}\` ${error ? error.message : `ended with ${status}`}.`);
  process.exit(1);
}

/**
 * Packages from npm have programs of the same names (`nft` is one), and npm puts those first on the path: they do not count.
 * @param {string} program
 */
function hasProgram(program) {
  const path = (process.env["PATH"] ?? "").split(delimiter).filter((directory) => !directory.includes("node_modules"));
  return [...path, "/usr/sbin", "/sbin"].some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
