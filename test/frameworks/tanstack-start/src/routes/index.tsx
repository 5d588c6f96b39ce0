import { createFileRoute } from "@tanstack/react-router";
import { createServerFn } from "@tanstack/react-start";

const greet = createServerFn()
  .inputValidator((name: string) => name)
  .handler(async ({ data }) => `rendered for ${data}`);

export const Route = createFileRoute("/")({
  validateSearch: ({ q }) => ({ q: String(q ?? "") }),
  loaderDeps: ({ search }) => search,
  loader: ({ deps }) => greet({ data: deps.q }),
  component: () => <h1>{Route.useLoaderData()}</h1>,
});
