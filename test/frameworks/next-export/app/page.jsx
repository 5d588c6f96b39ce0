export default function Home() {
  return <h1>Exported</h1>;
}
