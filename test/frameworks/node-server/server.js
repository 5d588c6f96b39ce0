import { createServer } from "node:http";

createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  if (pathname !== "/" && !pathname.startsWith("/users/")) return response.writeHead(404).end("no such page");
  response.setHeader("content-type", "application/json");
  return response.end(JSON.stringify({ id: pathname.slice("/users/".length), query: Object.fromEntries(searchParams) }));
}).listen(process.env.PORT ?? 3000);
