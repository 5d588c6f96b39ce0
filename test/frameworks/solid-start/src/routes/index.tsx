import { createAsync, query, useSearchParams } from "@solidjs/router";

const greet = query(async (name: string) => {
  "use server";
  return `rendered for ${name}`;
}, "greet");

export default function Home() {
  const [search] = useSearchParams();
  const text = createAsync(() => greet(String(search["q"])));
  return <h1>{text()}</h1>;
}
