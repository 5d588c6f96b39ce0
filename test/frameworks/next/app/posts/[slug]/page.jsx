export const revalidate = 2;
export const generateStaticParams = () => [{ slug: "first" }];

export default async function Post({ params }) {
  const { slug } = await params;
  return (
    <h1>
      Post {slug} at <time>{Date.now()}</time>
    </h1>
  );
}
