import { useRouter } from "next/router";

export const getStaticPaths = () => ({ paths: ["/fallback/known"], fallback: true });
export const getStaticProps = ({ params }) =>
  params.name === "gone" ? { notFound: true } : { props: { name: params.name, time: Date.now() }, revalidate: 3600 };

export default function Page({ name, time }) {
  if (useRouter().isFallback) return <p>Loading</p>;
  return (
    <p>
      {`Fallback ${name} `}
      <time>{time}</time>
    </p>
  );
}
