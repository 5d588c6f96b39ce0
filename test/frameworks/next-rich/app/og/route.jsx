import { ImageResponse } from "next/og";

export const dynamic = "force-dynamic";

export const GET = () => new ImageResponse(<div style={{ fontSize: 40 }}>Node.js</div>, { width: 200, height: 100 });
