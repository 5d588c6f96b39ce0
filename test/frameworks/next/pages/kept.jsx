export const getStaticProps = () => ({ props: { time: Date.now() } });

export default function Kept({ time }) {
  return <time>{time}</time>;
}
