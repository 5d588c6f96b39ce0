export default function About() {
  return (
    <h1>
      About, static since <time>{Date.now()}</time>
    </h1>
  );
}
