import { error } from "@sveltejs/kit";

export const load = ({ params }) => (params.id === "none" ? error(404, "no such user") : { id: params.id });
