export const loader = ({ request }: { request: Request }) => ({ query: new URL(request.url).searchParams.get("q") ?? "nobody" });

export default function Home({ loaderData }: { loaderData: { query: string } }) {
  return <h1>React Router, rendered for {loaderData.query}</h1>;
}
