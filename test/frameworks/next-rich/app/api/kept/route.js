export const dynamic = "force-static";
export const revalidate = 3600;

export const GET = () => Response.json({ time: Date.now() });
