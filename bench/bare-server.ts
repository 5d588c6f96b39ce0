/**
 * A server of one answer that reads no request: what sockets cost in Node before anything is done with them. Run as a
 * process of its own: bytes of the body, and `accepted` (Node's sockets as they are accepted) or `adopted` (as ours read).
 */
import { createServer, type AddressInfo, type Socket } from "node:net";
import { adoptSocket } from "../src/gateway/accepted-socket.ts";

const [bytes, way] = process.argv.slice(2);
const body = "x".repeat(Number(bytes));
const answer = Buffer.from(`HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: ${body.length}\r\n\r\n${body}`, "latin1");
const reads = way === "adopted";

const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: reads }, (accepted) => {
  const write = (): void => void socket.write(answer);
  const socket: Socket = reads ? adoptSocket(accepted, write) : accepted.on("data", write);
  socket.on("error", () => {}).on("end", () => socket.end());
  socket.resume();
}).listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port));
