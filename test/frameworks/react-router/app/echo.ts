export const action = async ({ request }: { request: Request }) => Response.json(await request.json(), { status: 201 });
