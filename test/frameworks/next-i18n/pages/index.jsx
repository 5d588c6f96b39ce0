export const getServerSideProps = ({ locale }) => ({ props: { locale } });

export default function Page({ locale }) {
  return <p>locale {locale}</p>;
}
