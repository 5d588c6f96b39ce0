import { unstable_cache } from "next/cache";

const now = unstable_cache(async () => Date.now(), ["now"], { tags: ["now"] });

export default async function Tagged() {
  return (
    <h1>
      Kept since <time>{await now()}</time>
    </h1>
  );
}
