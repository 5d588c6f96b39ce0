import { useParams } from "@solidjs/router";

export default function User() {
  return <p>{`User ${useParams()["id"]}`}</p>;
}
