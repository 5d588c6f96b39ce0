import Link from "next/link";

export default function Home() {
  return <Link href="/users/7">Static below a base path</Link>;
}
