import type { LoaderFunctionArgs } from "@remix-run/node";
import { useLoaderData } from "@remix-run/react";

export const loader = ({ request }: LoaderFunctionArgs) => ({ name: new URL(request.url).searchParams.get("q") });

export default function Index() {
  return <h1>{`rendered for ${useLoaderData<typeof loader>().name}`}</h1>;
}
