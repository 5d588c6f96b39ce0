export const dynamic = "force-dynamic";

export function GET() {
  const encoder = new TextEncoder();
  return new Response(
    new ReadableStream({
      async start(controller) {
        for (const word of ["one", "two", "three"]) {
          controller.enqueue(encoder.encode(`data: ${word}\n\n`));
          await new Promise((resolve) => setTimeout(resolve, 200));
        }
        controller.close();
      },
    }),
    { headers: { "content-type": "text/event-stream" } },
  );
}
