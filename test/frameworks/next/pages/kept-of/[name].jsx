export const getStaticPaths = () => ({ paths: [], fallback: "blocking" });

export const getStaticProps = () => ({ props: { time: Date.now() } });

export { default } from "../kept";
