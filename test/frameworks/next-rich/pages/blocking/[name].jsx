export const getStaticPaths = () => ({ paths: [], fallback: "blocking" });
export const getStaticProps = ({ params }) => {
  if (params.name === "away") return { redirect: { destination: "/blocking/here", permanent: false } };
  return { props: { name: params.name, time: Date.now() } };
};

export default function Page({ name, time }) {
  return (
    <p>
      {`Blocking ${name} `}
      <time>{time}</time>
    </p>
  );
}
