import localFont from "next/font/local";

const inter = localFont({ src: "../../node_modules/@fontsource/inter/files/inter-latin-400-normal.woff2", variable: "--inter" });

export default function Fonts() {
  return <h1 className={inter.className}>Local font</h1>;
}
