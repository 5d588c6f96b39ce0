/** The web servers that Mayfly is measured against, from Debian, with one worker, each on a free port of the loopback. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { childrenOf } from "../test/memory.ts";

export interface WebServer extends Disposable {
  readonly origin: string;
  /** The process that answers. */
  readonly pid: number;
}

/**
 * @param location directives of `location /`
 * @param more directives beside the server
 * @param listen how its socket listens, beside the address
 */
export async function openNginx(directory: string, location: string, more = "", listen = ""): Promise<WebServer> {
  mkdirSync(directory, { recursive: true });
  const port = await freePort();
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${join(directory, name)};`);
  writeFileSync(
    join(directory, "nginx.conf"),
    `${process.getuid?.() === 0 ? "user root; " : ""}daemon off; worker_processes 1; pid ${join(directory, "pid")}; error_log ${join(directory, "error.log")};
events { worker_connections 4096; }
http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; open_file_cache max=1000; default_type text/html;
${temporary.join("\n")}
${more}
server { listen 127.0.0.1:${port} ${listen}; location / { ${location} } } }\n`,
  );
  const child = spawn("nginx", ["-c", join(directory, "nginx.conf"), "-p", directory, "-e", join(directory, "error.log")], {
    stdio: "inherit",
  });
  await listening(child, port);
  const [worker] = childrenOf(child.pid!);
  return { origin: `http://127.0.0.1:${port}`, pid: worker!, [Symbol.dispose]: () => void child.kill("SIGTERM") };
}

export async function openCaddy(directory: string, root: string): Promise<WebServer> {
  mkdirSync(directory, { recursive: true });
  const port = await freePort();
  const file = join(directory, "Caddyfile");
  writeFileSync(
    file,
    `{\n  admin off\n  auto_https off\n  log {\n    level ERROR\n  }\n}\nhttp://:${port} {\n  bind 127.0.0.1\n  root * ${root}\n  file_server\n}\n`,
  );
  const child = spawn("caddy", ["run", "--config", file, "--adapter", "caddyfile"], {
    stdio: ["ignore", "ignore", "ignore"],
    env: { PATH: process.env["PATH"] ?? "", HOME: directory, GOMAXPROCS: "1" },
  });
  await listening(child, port);
  return { origin: `http://127.0.0.1:${port}`, pid: child.pid!, [Symbol.dispose]: () => void child.kill("SIGTERM") };
}

/** Before the server on `backendPort`; its threads are one pool. */
export async function openVarnish(directory: string, backendPort: number): Promise<WebServer> {
  mkdirSync(directory, { recursive: true });
  const port = await freePort();
  const child = spawn(
    "varnishd",
    ["-F", "-n", join(directory, "work"), "-a", `127.0.0.1:${port}`, "-b", `127.0.0.1:${backendPort}`, "-s", "malloc,64m"].concat([
      "-p",
      "thread_pools=1",
      "-p",
      "thread_pool_min=20",
      "-j",
      "none",
    ]),
    { stdio: "ignore" },
  );
  await listening(child, port);
  const [worker] = childrenOf(child.pid!);
  return { origin: `http://127.0.0.1:${port}`, pid: worker!, [Symbol.dispose]: () => void child.kill("SIGTERM") };
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

async function listening(child: ChildProcess, port: number): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt++) {
    if (child.exitCode !== null) break;
    const socket = connect(port, "127.0.0.1");
    const isThere = await new Promise<boolean>(
      (resolve) => void socket.once("connect", () => resolve(true)).once("error", () => resolve(false)),
    );
    socket.destroy();
    if (isThere) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  child.kill("SIGKILL");
  throw new Error(`${child.spawnfile} does not answer on port ${port}.`);
}
