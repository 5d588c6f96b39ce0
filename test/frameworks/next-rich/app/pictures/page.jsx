import Image from "next/image";
import dot from "../../assets/dot.png";

export default function Pictures() {
  return (
    <main>
      <Image src={dot} alt="imported" placeholder="blur" />
      <Image src="/dot.png" alt="public" width={16} height={16} />
    </main>
  );
}
