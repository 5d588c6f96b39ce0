import { useParams } from "@remix-run/react";

export default function User() {
  return <p>{`User ${useParams()["id"]}`}</p>;
}
