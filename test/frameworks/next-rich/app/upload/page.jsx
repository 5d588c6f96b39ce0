async function take(_before, form) {
  "use server";
  const file = form.get("file");
  return `${file.name} has ${file.size} bytes, the last ${Buffer.from(await file.arrayBuffer()).at(-1)}`;
}

import { Form } from "./form";

export default function Upload() {
  return <Form action={take} />;
}
