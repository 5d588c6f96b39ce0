export const getServerSideProps = () => {
  throw new Error("failing on purpose");
};

export default function Page() {
  return null;
}
