"use server";

import { redirect } from "next/navigation";

export async function save(form) {
  redirect(`/users/${form.get("name")}`);
}
