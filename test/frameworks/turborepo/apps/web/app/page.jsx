import { greeting } from "@starter/words";

export default function Page() {
  return <h1>{greeting}</h1>;
}
