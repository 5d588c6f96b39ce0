export default { basePath: "/docs", trailingSlash: true };
