export default function Failed() {
  return <h1>Rich went wrong</h1>;
}
