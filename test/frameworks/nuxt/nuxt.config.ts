export default defineNuxtConfig({ compatibilityDate: "2026-01-01", telemetry: false, routeRules: { "/about": { prerender: true } } });
