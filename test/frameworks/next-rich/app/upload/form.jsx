"use client";
import { useActionState } from "react";

export function Form({ action }) {
  const [said, submit] = useActionState(action, "nothing yet");
  return (
    <form action={submit}>
      <input type="file" name="file" />
      <output>{said}</output>
    </form>
  );
}
