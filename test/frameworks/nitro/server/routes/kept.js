export default defineEventHandler(() => ({ time: Date.now() }));
