import { useEffect, useState } from "react";

export default function Home() {
  const [date, setDate] = useState("…");
  useEffect(() => {
    fetch("/api/date")
      .then((response) => response.text())
      .then(setDate);
  }, []);
  return (
    <main style={{ minHeight: "100dvh", display: "grid", placeContent: "center", justifyItems: "center", fontFamily: "system-ui" }}>
      {/* A file of its own, from the static directory. */}
      <img src="/static/logo.svg" alt="A mayfly" width="96" height="96" />
      <h1>The server's date</h1>
      <p>{date}</p>
    </main>
  );
}
