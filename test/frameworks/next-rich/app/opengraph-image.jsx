import { ImageResponse } from "next/og";

export const size = { width: 120, height: 63 };
export const contentType = "image/png";

export default function Image() {
  return new ImageResponse(<div style={{ fontSize: 20 }}>Rich</div>, size);
}
