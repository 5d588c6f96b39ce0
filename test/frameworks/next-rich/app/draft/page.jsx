import { draftMode } from "next/headers";

export const dynamic = "force-static";

export default async function Draft() {
  return (
    <p>
      draft {(await draftMode()).isEnabled ? "on" : "off"} <time>{Date.now()}</time>
    </p>
  );
}
