module.exports = (req, res) => {
  res.setHeader("content-type", "text/plain; charset=utf-8");
  res.end(new Date().toISOString());
};
