/**
 * TypeScript's `emitDecoratorMetadata`, which frameworks with dependency injection read at run time: a file with decorators
 * becomes JavaScript in which each says which types it stands on (`design:type`, `design:paramtypes`). Hides oxc-transform.
 */
import type { HelperMode, TransformOptions } from "oxc-transform";
import type { Tsconfig } from "./tsconfig.ts";

/** What the code calls, as TypeScript means it; functions, because these are there before the first class. */
const helpers = [
  "function __decorate(decorators, target, key, descriptor) {",
  "const isMember = arguments.length > 2;",
  "let result = isMember ? (descriptor === null ? Object.getOwnPropertyDescriptor(target, key) : descriptor) : target;",
  "for (let index = decorators.length - 1; index >= 0; index--) {",
  "const decorator = decorators[index];",
  "result = (!isMember ? decorator(result) : descriptor === undefined ? decorator(target, key) : decorator(target, key, result)) || result; }",
  "if (isMember && result) Object.defineProperty(target, key, result);",
  "return result; }",
  'function __decorateMetadata(key, value) { return typeof Reflect === "object" && typeof Reflect.metadata === "function" ? Reflect.metadata(key, value) : () => {}; }',
  "function __decorateParam(index, decorator) { return (target, key) => decorator(target, key, index); }",
].join(" ");

/**
 * @param path of the TypeScript file
 * @returns JavaScript, JSX left in, its source map at its end; null: the file has no decorators
 * @throws Error for what cannot be parsed
 */
export async function emitMetadata(path: string, source: string, { decorators }: Tsconfig): Promise<string | null> {
  if (!decorators.emitsMetadata || !/@[\w$(]/.test(source)) return null;
  const { transformSync } = await import("oxc-transform");
  const options: TransformOptions = {
    sourcemap: true,
    jsx: "preserve",
    helpers: { mode: "External" as HelperMode },
    decorator: { legacy: true, emitDecoratorMetadata: true },
    typescript: {
      onlyRemoveTypeImports: decorators.keepsImports,
      removeClassFieldsWithoutInitializer: !decorators.definesFields,
    },
    // Fields are assigned in the constructor, where a decorator's accessor sees them.
    ...(decorators.definesFields ? {} : { target: "es2021", assumptions: { setPublicClassFields: true } }),
  };
  const { code, map, errors, helpersUsed } = transformSync(path, source, options);
  const [error] = errors;
  if (error !== undefined) throw new SyntaxError(`${path}: ${error.message}`);
  if (!Object.values(helpersUsed).some((name) => name.endsWith("/decorate"))) return null;
  const mapped = Buffer.from(JSON.stringify(map)).toString("base64");
  return `${code.replaceAll("babelHelpers.decorate", "__decorate")}\n${helpers}\n//# sourceMappingURL=data:application/json;base64,${mapped}\n`;
}
