export const config = { isr: { expiration: 3600 } };

export const load = () => ({ time: Date.now() });
