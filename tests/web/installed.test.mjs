// The folder EDGEKIT_WEB_FOLDER, which `edgekit package web MODEL` of an installed wheel wrote: its page chats in a headless Chromium.

import assert from "node:assert/strict";
import { test } from "node:test";

import { launch } from "./chromium.mjs";
import { serve } from "./server.mjs";

const root = process.env.EDGEKIT_WEB_FOLDER;

test("the page of `edgekit package web` chats", { skip: root ? false : "EDGEKIT_WEB_FOLDER names no folder" }, async () => {
    const server = await serve({ isolated: false, root: `${root}/` });
    const browser = await launch();
    try {
        const page = await browser.newPage();
        const errors = [];
        page.on("pageerror", (error) => errors.push(error.message));
        await page.goto(`${server.url}/`);
        for (const [turn, question] of ["Tell me a story about a dog.", "And about a cat?"].entries()) {
            await page.waitForSelector("#form", { state: "visible" });
            await page.fill("#prompt", question);
            await page.press("#prompt", "Enter");
            await page.waitForFunction((n) => document.querySelectorAll("#chat p")[n]?.textContent.length > 20, 2 * turn + 1);
        }
        assert.deepEqual(errors, []);
    } finally {
        await browser.close();
        server.close();
    }
});
