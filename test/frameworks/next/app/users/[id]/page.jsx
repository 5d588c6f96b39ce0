import { notFound } from "next/navigation";

export default async function User({ params }) {
  const { id } = await params;
  if (id === "none") notFound();
  return <h1>User {id}</h1>;
}

export const dynamic = "force-dynamic";
