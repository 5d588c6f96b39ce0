export default function handler(request, response) {
  response.json({ url: request.url });
}
