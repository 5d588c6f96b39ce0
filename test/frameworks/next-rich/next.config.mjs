export default {
  // What is meant for a server of one's own changes nothing here.
  output: "standalone",
  deploymentId: "rich-1",
  images: {
    remotePatterns: [{ protocol: "https", hostname: "pictures.example", pathname: "/allowed/**" }],
    localPatterns: [{ pathname: "/dot.png" }, { pathname: "/_next/static/media/**" }],
    qualities: [50, 75],
  },
  rewrites: async () => ({
    beforeFiles: [{ source: "/before/:path*", destination: "/:path*" }],
    afterFiles: [{ source: "/elsewhere/:path*", destination: "http://127.0.0.1:9/:path*" }],
    fallback: [{ source: "/fallback-to/:name", destination: "/fallback/:name" }],
  }),
};
