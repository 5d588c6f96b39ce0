export default function handler(request, response) {
  response.json({ id: request.query.id });
}
