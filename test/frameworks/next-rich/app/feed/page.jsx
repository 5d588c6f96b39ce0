import Link from "next/link";

export default function Feed() {
  return <Link href="/feed/1">Picture 1</Link>;
}
