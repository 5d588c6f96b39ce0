import { unstable_cache } from "next/cache";
import { connection } from "next/server";

const now = unstable_cache(async () => Date.now(), ["now"], { tags: ["unstable"], revalidate: 3600 });

export default async function Unstable() {
  await connection();
  return <time>{await now()}</time>;
}
