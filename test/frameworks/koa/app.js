const Koa = require("koa");

const app = new Koa();
app.use(async (context) => {
  if (context.path === "/") context.body = { hello: "koa" };
  else if (context.path.startsWith("/users/")) context.body = { id: context.path.slice("/users/".length), query: context.query };
});
app.listen(4000, () => console.log("Koa listens"));
