export default function Home() {
  return <h1>Docusaurus</h1>;
}
