import { Suspense } from "react";

async function Late() {
  await new Promise((resolve) => setTimeout(resolve, 500));
  return <p>Late part</p>;
}

export const dynamic = "force-dynamic";

export default function Slow() {
  return (
    <main>
      <h1>Early part</h1>
      <Suspense fallback={<p>Waiting</p>}>
        <Late />
      </Suspense>
    </main>
  );
}
