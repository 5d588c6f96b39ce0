export default function Missing() {
  return <h1>No such page in any language</h1>;
}
