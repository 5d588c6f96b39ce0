export const load = ({ url }) => ({ query: url.searchParams.get("q") ?? "nobody" });
