export const getServerSideProps = ({ query }) => ({ props: { q: query.q ?? "nobody" } });

export default function Legacy({ q }) {
  return <h1>Pages router for {q}</h1>;
}
