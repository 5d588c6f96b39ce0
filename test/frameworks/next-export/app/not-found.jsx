export default function NotFound() {
  return <h1>The export has no such page</h1>;
}
