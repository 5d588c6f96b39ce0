import preact from "@astrojs/preact";
import vercel from "@astrojs/vercel";
import { defineConfig } from "astro/config";

export default defineConfig({ output: "server", adapter: vercel(), integrations: [preact()] });
