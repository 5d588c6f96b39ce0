export default function Feed({ children, modal }) {
  return (
    <section>
      {children}
      <aside>{modal}</aside>
    </section>
  );
}
