export default { title: "VitePress starter", cleanUrls: true };
