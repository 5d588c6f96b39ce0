export default async function Whole({ params }) {
  return <h1>Whole page of {(await params).id}</h1>;
}
