export const getServerSideProps = ({ params }) => ({ props: { id: params.id } });

export default function User({ id }) {
  return <h1>User {id}</h1>;
}
