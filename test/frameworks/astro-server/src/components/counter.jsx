import { useState } from "preact/hooks";

export default function Counter() {
  const [count, set] = useState(0);
  return <button onClick={() => set(count + 1)}>Island {count}</button>;
}
