export default function NotFound() {
  return <h1>Rich has no such page</h1>;
}
