import { cookies } from "next/headers";
import Link from "next/link";
import { Suspense } from "react";

async function Mine() {
  const name = (await cookies()).get("name")?.value ?? "nobody";
  await new Promise((resolve) => setTimeout(resolve, 800));
  return <p>Late part for {name}</p>;
}

export default function Page() {
  return (
    <main>
      <h1>Static shell</h1>
      <Link href="/cached">Cached</Link>
      <Suspense fallback={<p>Waiting</p>}>
        <Mine />
      </Suspense>
    </main>
  );
}
