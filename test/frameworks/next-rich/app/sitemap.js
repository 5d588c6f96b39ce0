export default () => [{ url: "https://rich.example/", lastModified: new Date(0) }];
