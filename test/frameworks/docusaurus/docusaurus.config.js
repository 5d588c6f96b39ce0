module.exports = {
  title: "Docusaurus starter",
  url: "https://docs.example",
  baseUrl: "/",
  presets: [["classic", { docs: { routeBasePath: "docs" }, blog: false }]],
};
