import { cookies } from "next/headers";
import { Suspense } from "react";

export const generateStaticParams = () => [{ slug: "first" }];

async function Post({ params }) {
  const { slug } = await params;
  return <h1>Post {slug}</h1>;
}

async function Reader() {
  return <p>Read by {(await cookies()).get("name")?.value ?? "nobody"}</p>;
}

export default function Page({ params }) {
  return (
    <main>
      <p>Blog shell</p>
      <Suspense fallback={<p>Which post</p>}>
        <Post params={params} />
      </Suspense>
      <Suspense fallback={<p>Who reads</p>}>
        <Reader />
      </Suspense>
    </main>
  );
}
