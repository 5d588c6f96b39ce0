export default (request, response) => response.json({ id: request.query.id });
