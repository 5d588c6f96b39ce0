import { H3, serve } from "h3";

const app = new H3()
  .get("/", () => ({ hello: "h3" }))
  .get("/users/:id", (event) => ({ id: event.context.params.id, q: event.url.searchParams.get("q") }))
  .post("/api/echo", async (event) => {
    event.res.status = 201;
    return event.req.json();
  });

serve(app, { port: 3000 });
