import { node } from "@elysiajs/node";
import { Elysia } from "elysia";

new Elysia({ adapter: node() })
  .get("/", () => ({ hello: "elysia" }))
  .get("/users/:id", ({ params, query }) => ({ id: params.id, q: query["q"] ?? null }))
  .post("/api/echo", ({ body, set }) => {
    set.status = 201;
    return body;
  })
  .listen(3000);
