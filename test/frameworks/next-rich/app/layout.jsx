export const metadata = { title: "Rich", metadataBase: new URL("https://rich.example") };

export default function Layout({ children }) {
  return (
    <html lang="en">
      <body>{children}</body>
    </html>
  );
}
