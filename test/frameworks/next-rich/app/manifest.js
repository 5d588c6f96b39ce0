export default () => ({ name: "Rich", start_url: "/" });
