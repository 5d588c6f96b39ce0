export default defineEventHandler((event) => ({ id: getRouterParam(event, "id"), q: getQuery(event).q ?? null }));
