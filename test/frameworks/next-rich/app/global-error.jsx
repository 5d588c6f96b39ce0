"use client";

export default function GlobalError() {
  return (
    <html lang="en">
      <body>Something broke globally</body>
    </html>
  );
}
