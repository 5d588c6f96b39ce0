import { createFileRoute } from "@tanstack/react-router";

export const Route = createFileRoute("/users/$id")({ component: () => <p>{`User ${Route.useParams().id}`}</p> });
