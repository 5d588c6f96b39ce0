import { ImageResponse } from "next/og";

export const runtime = "edge";

export const GET = () => new ImageResponse(<div style={{ fontSize: 40 }}>Edge</div>, { width: 200, height: 100 });
