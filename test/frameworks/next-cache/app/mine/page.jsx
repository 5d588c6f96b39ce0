import { cacheLife, cacheTag } from "next/cache";
import { cookies } from "next/headers";
import { Suspense } from "react";

async function now() {
  "use cache";
  cacheLife("hours");
  cacheTag("now");
  return Date.now();
}

/** What is kept within what is one reader's. */
async function Mine() {
  const name = (await cookies()).get("name")?.value ?? "nobody";
  return (
    <p>
      For {name} <time>{await now()}</time>
    </p>
  );
}

export default function Page() {
  return (
    <Suspense fallback={<p>Waiting</p>}>
      <Mine />
    </Suspense>
  );
}
