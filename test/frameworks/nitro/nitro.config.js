export default defineNitroConfig({
  srcDir: "server",
  compatibilityDate: "2026-01-01",
  publicAssets: [{ dir: "../public" }],
  routeRules: { "/kept": { isr: 3600 }, "/old": { redirect: "/" } },
});
