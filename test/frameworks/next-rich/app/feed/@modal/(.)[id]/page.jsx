export default async function Modal({ params }) {
  return <h2>Modal of {(await params).id}</h2>;
}
