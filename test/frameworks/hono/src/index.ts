import { Hono } from "hono";
import { stream } from "hono/streaming";

const app = new Hono();
app.get("/", (context) => context.html("<h1>Hono</h1>"));
app.get("/users/:id", (context) => context.json({ id: context.req.param("id"), query: context.req.query() }));
app.post("/api/echo", async (context) => context.json(await context.req.json(), 201));
app.get("/stream", (context) =>
  stream(context, async (to) => {
    for (const part of ["one ", "two ", "three"]) await to.write(part);
  }),
);

export default app;
