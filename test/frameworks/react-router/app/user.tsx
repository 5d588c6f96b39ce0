export const loader = ({ params }: { params: { id: string } }) => ({ id: params.id });

export default function User({ loaderData }: { loaderData: { id: string } }) {
  return <h1>User {loaderData.id}</h1>;
}
