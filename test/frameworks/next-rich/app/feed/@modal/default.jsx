export default () => <i>no modal</i>;
