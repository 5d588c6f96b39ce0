export default { title: "Button", component: () => <button>Press</button> };

export const Plain = {};
