export const getStaticPaths = () => ({ paths: [{ params: { slug: "first" }, locale: "de" }], fallback: "blocking" });
export const getStaticProps = ({ params, locale }) => ({ props: { slug: params.slug, locale } });

export default function Post({ slug, locale }) {
  return <p>{`Post ${slug} in ${locale}`}</p>;
}
