export default {
  redirects: () => [{ source: "/old", destination: "/about", permanent: true }],
  rewrites: () => [{ source: "/rewritten/:id", destination: "/users/:id" }],
  headers: () => [{ source: "/about", headers: [{ key: "x-from-config", value: "yes" }] }],
  images: { formats: ["image/webp"] },
};
