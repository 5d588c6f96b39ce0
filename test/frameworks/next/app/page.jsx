import Image from "next/image";
import { save } from "./actions";

export default async function Home({ searchParams }) {
  const { q } = await searchParams;
  return (
    <main>
      <h1>Next.js, rendered for {q ?? "nobody"}</h1>
      <Image src="/dot.png" alt="" width={64} height={64} />
      <form action={save}>
        <input name="name" />
      </form>
    </main>
  );
}
