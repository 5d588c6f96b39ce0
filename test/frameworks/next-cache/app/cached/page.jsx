import { cacheLife, cacheTag, updateTag } from "next/cache";

async function now() {
  "use cache";
  cacheLife("hours");
  cacheTag("now");
  return Date.now();
}

async function renew() {
  "use server";
  updateTag("now");
}

export default async function Page() {
  return (
    <main>
      <time>{await now()}</time>
      <form action={renew}>
        <button>Renew</button>
      </form>
    </main>
  );
}
