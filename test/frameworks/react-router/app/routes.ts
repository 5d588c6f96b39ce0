import { index, route, type RouteConfig } from "@react-router/dev/routes";

export default [index("home.tsx"), route("users/:id", "user.tsx"), route("api/echo", "echo.ts")] satisfies RouteConfig;
