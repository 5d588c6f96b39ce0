import { headers } from "next/headers";
import { after } from "next/server";

globalThis.done ??= [];

export default async function After() {
  const by = (await headers()).get("x-asked-by");
  after(async () => {
    await new Promise((resolve) => setTimeout(resolve, 300));
    globalThis.done.push("done after the answer");
    console.log("done after the answer");
  });
  return (
    <p>
      {globalThis.done.length} by {by}
    </p>
  );
}
