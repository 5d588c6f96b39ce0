export default () => ({ rules: { userAgent: "*", allow: "/" }, sitemap: "https://rich.example/sitemap.xml" });
