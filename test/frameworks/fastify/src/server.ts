import Fastify from "fastify";

const app = Fastify({ logger: true });
app.get("/", async () => ({ hello: "fastify" }));
app.get<{ Params: { id: string } }>("/users/:id", async (request) => ({ id: request.params.id, query: request.query }));
app.post("/api/echo", async (request, reply) => reply.code(201).send(request.body));

await app.listen({ port: 8080, host: "0.0.0.0" });
