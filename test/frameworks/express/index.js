const express = require("express");

const app = express();
app.use(express.json());
app.get("/", (request, response) => response.send("<h1>Express</h1>"));
app.get("/users/:id", (request, response) => response.json({ id: request.params.id, query: request.query }));
app.post("/api/echo", (request, response) => response.status(201).json(request.body));
app.use((request, response) => response.status(404).send("Express has no such page"));
app.listen(process.env.PORT || 3000);
