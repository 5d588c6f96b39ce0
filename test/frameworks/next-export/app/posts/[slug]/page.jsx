export const generateStaticParams = () => [{ slug: "first" }];
export const dynamicParams = false;

export default async function Post({ params }) {
  return <h1>Post {(await params).slug}</h1>;
}
