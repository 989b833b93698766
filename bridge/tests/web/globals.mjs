// What packages made for Node expect to be there.
export { Buffer } from "buffer/";
export const process = { env: {}, nextTick: (step, ...args) => queueMicrotask(() => step(...args)) };
