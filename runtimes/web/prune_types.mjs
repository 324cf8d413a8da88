// Removes from dist/ the declarations that index.d.ts does not lead to: they are of what an app never sees.

import { readdirSync, readFileSync, rmSync } from "node:fs";

const dist = new URL("dist/", import.meta.url);
const needed = new Set();
function follow(name) {
    if (needed.has(name)) return;
    needed.add(name);
    for (const [, other] of readFileSync(new URL(name, dist), "utf8").matchAll(/from "\.\/(\w+)\.js"/g)) follow(`${other}.d.ts`);
}
follow("index.d.ts");
for (const name of readdirSync(dist)) if (name.endsWith(".d.ts") && !needed.has(name)) rmSync(new URL(name, dist));
