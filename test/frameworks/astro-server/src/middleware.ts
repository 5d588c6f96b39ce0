import { defineMiddleware } from "astro:middleware";

export const onRequest = defineMiddleware(async (context, next) => {
  context.locals.by = "middleware";
  const response = await next();
  response.headers.set("x-from-middleware", "yes");
  return response;
});
