export default defineNuxtConfig({
  compatibilityDate: "2026-01-01",
  telemetry: false,
  routeRules: { "/about": { prerender: true }, "/kept": { isr: 3600 }, "/soon": { swr: 3600 }, "/old": { redirect: "/about" } },
});
